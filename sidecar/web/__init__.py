"""aiohttp: routes, handlers, streaming, errors. Joins the other rooms; decides nothing itself."""
