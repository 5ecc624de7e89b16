"""Lets a change take effect step by step, and takes it back when it does harm: state, arms, shadow decisions, evidence."""
