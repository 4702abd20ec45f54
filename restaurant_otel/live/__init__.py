"""Parts of ``restaurant-otel top``: an app's figures, live at a terminal.

text.py     the text of /metrics, back into families of points
sources.py  where figures come from: /metrics, or the admin API, of any host
screen.py   one look at an app, as plain data
draw.py     a look as lines of text, for any size of terminal
keys.py     keys, one at a time
"""
