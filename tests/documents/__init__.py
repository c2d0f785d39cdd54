"""The documents as a site, their generated pages, and the code in them."""
