"""What a SIP user agent server must do, one test for each item; the RFC sections stand in the docstrings."""
