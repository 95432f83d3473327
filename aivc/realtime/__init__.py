"""The model: OpenAI's Realtime API over WebSocket. Knows no SIP and no RTP, only G.711 bytes and milliseconds."""
