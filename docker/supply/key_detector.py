"""API keys of AlignX Serve and its user tokens, for detect-secrets."""

import re

from detect_secrets.plugins.base import RegexBasedDetector


class AlignXKeyDetector(RegexBasedDetector):
    """An API key as the gateway makes it: `ax_`, an id, a secret of 32 characters or more."""

    secret_type = "AlignX API Key"
    denylist = (re.compile(r"\bax_[a-z0-9]{4,32}_[A-Za-z0-9-]{32,128}\b"),)
