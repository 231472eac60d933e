"""Where runs are kept: the port (`base`) and the databases behind it."""
