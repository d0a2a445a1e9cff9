"""Who vouches for a version: signatures that anybody's tools can verify, and what was done to it.

    signatures   sign, verify_signature, require_signed: a version, or a directory
    statements   what a signature says, in OpenSSF model signing's words: the digests of all files
    receipts     what was done to a version, as in-toto statements
    envelope     formats: in-toto statement, DSSE, Sigstore bundle
    keys         keys, and who signs with them (cryptography)
    trust        whom one trusts, and whether a signature is theirs (cryptography)

Where they are kept: repository/stores/attachments.
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
