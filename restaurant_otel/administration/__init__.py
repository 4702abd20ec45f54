"""Parts of the admin API, whose face is `restaurant_otel.admin`.

    operations.py   what can be asked for: method, path, right, parameters, result, handler
    serving.py      one request: admitted, checked, done, told, written down
    openapi.py      the OpenAPI document, made from the operations
    audit.py        who did what, when, and how it ended
    keys.py         public keys fetched by URL
    shared.py       what all workers of an app must know alike: jobs, changed settings
    jobs.py         work that takes longer than a request should
    pages.py        the same figures as HTML

The rest are the operations' handlers, by subject: `health`, `figures`, `caches`, `alerts`, `advice`, `changes`.
"""
