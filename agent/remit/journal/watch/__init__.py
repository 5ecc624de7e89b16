"""What watches a journal from outside of its runs, and reads no history for that.

figures       the state of the workspace as numbers, for gauges
audit_cursor  how far the audit stream has come
notes         acts that belong to no run
pages         pages of the events of one run
waiting       the requests for approval that wait
"""
