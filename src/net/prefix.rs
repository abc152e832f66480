//! Addresses that begin alike: `10.0.0.0/8`.

use std::net::IpAddr;
use std::str::FromStr;

/// All addresses whose first bits are those of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    first: IpAddr,
    bits: u8,
}

impl Prefix {
    /// The addresses that begin with the first `bits` of `addr`; `None` if it has no so
    /// many.
    pub fn new(addr: IpAddr, bits: u8) -> Option<Self> {
        (bits <= width(addr)).then(|| Self { first: masked(addr, bits), bits })
    }

    /// Whether `addr` is one of them.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        addr.is_ipv4() == self.first.is_ipv4() && masked(addr, self.bits) == self.first
    }
}

impl From<IpAddr> for Prefix {
    /// That address alone.
    fn from(addr: IpAddr) -> Self {
        Self { first: addr, bits: width(addr) }
    }
}

impl FromStr for Prefix {
    type Err = &'static str;

    /// An address, or an address and a number of bits behind a slash.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "not an address or ADDR/BITS, as in 127.0.0.1 or 10.0.0.0/8";
        let (addr, bits) = match text.split_once('/') {
            Some((addr, bits)) => (addr, Some(bits)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| WRONG)?;
        let Some(bits) = bits else { return Ok(addr.into()) };
        let digits = bits.bytes().all(|b| b.is_ascii_digit());
        let bits = bits.parse().ok().filter(|_| digits).ok_or(WRONG)?;
        Self::new(addr, bits).ok_or("more bits than the address has")
    }
}

fn width(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// Its first `bits`, the others zero.
pub(super) fn masked(addr: IpAddr, bits: u8) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::V4((addr.to_bits() & mask).into())
        }
        IpAddr::V6(addr) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            IpAddr::V6((addr.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_what_begins_with_it_and_nothing_else() {
        for (prefix, inside, outside) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.255.0.1", "9.255.255.255"),
            ("192.168.4.0/23", "192.168.5.255", "192.168.6.0"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:11.0.0.1"),
            ("::1", "::1", "::2"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "ffff::", "0.0.0.0"),
        ] {
            let prefix: Prefix = prefix.parse().unwrap();
            assert!(prefix.contains(inside.parse().unwrap()), "{prefix:?} {inside}");
            assert!(!prefix.contains(outside.parse().unwrap()), "{prefix:?} {outside}");
        }
        for text in ["", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "::/129", "a", "10/8"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }
}
