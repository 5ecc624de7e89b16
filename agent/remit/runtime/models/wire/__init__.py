"""What goes over the wire to a provider and back: Remit's own reader of the chat-completions interface.

    sent_conversation ─► request ─► event_stream ─► answer_reader ─► turns
      (ids, pairs)                   (documents)      (chunks)       (ModelTurn)

What the server refuses is explained by `provider_errors`, in the provider's words, which `error_texts` and `retry_times` find.
`provider_state` keeps what a provider needs back with its turn.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
