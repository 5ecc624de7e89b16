from .recorded import ClientAnswer, RecordedCall, answer_of, no_such_request, recorded_call

__all__ = ["ClientAnswer", "RecordedCall", "answer_of", "no_such_request", "recorded_call"]
