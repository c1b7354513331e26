"""The web console and the HTTP API: they read the store, and file requests (DESIGN §3.9).

A program of its own, which the scheduler does not notice: it may be killed or flooded, and nothing
of the timetable minds.  Every view is a GET address that changes nothing and works without
JavaScript; every action is a POST that is checked, written down, and answered with 303.

routes      what there is to ask for: path, methods, who may; matrix, OpenAPI and tests are made
            of it
gate        what stands before every handler: host, account, role, origin, size
accounts    users, tokens and links, in files of the project; sessions; what was tried too often
audit       who did what, in a chain that cannot be mended
living      the timetable in memory, kept up to date by the feed
views       what a page shows, as values; templates make HTML of them
api         the same for programs
server      waitress, TLS, and its end
"""
