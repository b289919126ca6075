"""The views and macros an analyst sees, and the connection that loads them."""
