"""F71 to F75: what stands between TCP and messages. None of it is there yet."""

from harness import not_applicable

not_applicable("F71", "plain text on a TLS port", "no TLS yet")
not_applicable("F72", "handshakes that break off", "no TLS yet")
not_applicable("F73", "client certificates", "no TLS yet")
not_applicable("F74", "an upgrade with plain text behind it", "no TLS yet")
not_applicable("F75", "PROXY headers", "no PROXY protocol yet")
