"""Passkeys: a person signs an approval with a device that they hold, and anyone who reads the record can check that.

statement     what a passkey signs: exactly one approval of one call
assertion     the check of a signature
registration  the check of a new passkey

W3C Web Authentication Level 3. The library is fido2 (BSD-2), of which the parsers and the signatures are used: what must hold of an
approval is checked here, in the same way when it is given and when its record is read.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
