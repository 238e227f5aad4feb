"""The paper's tables: metrics on test sets and folders of pairs."""
