"""Requests and responses of test cases: answers that the proxy gives in place of the network, and those of a real call, kept.

answers   what a case says that its services answer
log       the requests and responses of one real call
"""
