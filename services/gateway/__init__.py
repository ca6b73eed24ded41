"""The gateway: translates REST into messages and back. It decides nothing and keeps nothing but
the newest state of each feeder.
"""
