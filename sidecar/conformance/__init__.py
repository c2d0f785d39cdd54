"""A test kit for servers of SMART Imaging Access: a client of any of them."""
