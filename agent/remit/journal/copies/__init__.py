"""Copies of the chains in shared storage, for the day on which the database is put back to an earlier state.

chain_copies  what is copied, and when
bringing_back what the copies have and the journal lacks
sealed_bodies the bodies of sealed runs
"""
