"""The message contract written down, for programs and for people.

``python -m flexfeeder.contract`` writes ``docs/asyncapi.json`` (AsyncAPI 3.0) and
``docs/messages.md`` from ``schemas/`` and the table of channels in this package.
"""
