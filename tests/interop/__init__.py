"""Calls by telephones that are not ours: baresip, SIPp, Linphone, PJSIP. Each is a process that calls `aivc serve`."""
