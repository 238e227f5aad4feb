"""Every public way on an accelerator that is made believe, so that no test needs a real one."""
