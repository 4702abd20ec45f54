"""A small restaurant chain's back office: the app that shows what one line of restaurant-otel gives.

`app` is the web app, `seed` fills its database, `traffic` plays its clients, `demo` runs all of them.
"""
