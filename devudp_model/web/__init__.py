"""The page in the browser: `devudp web`."""
