"""What a SIP user agent and its media must do: one test for each item, whose number begins the test's name.

| items | where |
|---|---|
| TX-01, 02, 08, 10 to 28, 33 to 38, 40: single requests | `test_requests.py` |
| TX-03 to 06, 09, 30, 31, 41: transactions and their timers | `test_transactions.py` |
| TCP-01 to 10: connections | `test_connections.py` |
| OA-01 to 30: offers and answers on the wire | `test_offers.py` |
| OA-02, 05 to 08, 13, 17, 21 to 23, 27: and in the handset | `test_offers_heard.py` |
| RTP-01 to 16: audio both ways | `test_media.py` |
| DL-02 to 10, ST-01 to 03: inside a call, session timers | `test_dialogs.py` |
| SE-01 to 12: what must not be possible | `test_security.py` |
| RF-01 to 09: transfers | `test_referring.py`; by real telephones and a proxy `interop/test_transfers.py`, |
| | `interop/test_conversation_transfers.py` |
| AU-01 to 06, RG-01 to 04: passwords, registrations | `test_authentication.py` |
| EC-01 to 05: what the model hears of a bad network | `test_echo.py` |
| LB-01 to 06: probes, draining | `test_load.py`; with dispatchers, fail-over and recovery |
| | `interop/test_dispatcher.py` |
| LD-01 to 03: many calls, an hour of calls | `test_load.py`; with sipp `interop/test_sipp.py` |
| MD-01 to 04: recordings of real telephones, keys | `interop/test_calls.py`, `interop/test_digits.py` |

What is left out is an xfail that says why. The torture tests of RFC 4475 and RFC 5118 are in `test_torture.py`.
"""
