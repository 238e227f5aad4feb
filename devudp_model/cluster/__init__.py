"""Images restored by many workers on many machines, with Ray Data: `devudp restore --cluster`."""
