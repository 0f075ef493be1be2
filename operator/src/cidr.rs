//! Ranges of addresses.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A range of addresses, such as `10.96.0.0/12`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    pub(crate) fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether it is all addresses there are.
    pub(crate) fn is_everything(&self) -> bool {
        self.prefix == 0
    }

    /// The same range, written with the first of its addresses.
    pub(crate) fn normal(&self) -> Self {
        Self { address: first(self.address, self.prefix), prefix: self.prefix }
    }

    /// The range of the one address it is written with.
    pub(crate) fn only(&self) -> Self {
        Self { address: self.address, prefix: if self.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether it is of IPv4 addresses in the form of IPv6.
    pub(crate) fn is_mapped(&self) -> bool {
        matches!(self.address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.is_ipv4() == address.is_ipv4()
            && first(address, self.prefix) == first(self.address, self.prefix)
    }

    /// Whether any address is in both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// Whether all of another range is in it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }
}

/// The first address of the range of a prefix that an address is in.
fn first(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || format!("{text} is not a range such as 10.96.0.0/12");
        let (address, prefix) = text.split_once('/').ok_or_else(refuse)?;
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let prefix: u8 = prefix.parse().map_err(|_| refuse())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix <= longest { Ok(Self { address, prefix }) } else { Err(refuse()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_read_strictly() {
        for good in ["10.96.0.0/12", "fd00::/8", "1.2.3.4/32", "0.0.0.0/0"] {
            assert_eq!(cidr(good).to_string(), good);
        }
        for bad in ["10.0.0.0", "10.0.0.0/33", "::/129", "x/8", "010.0.0.0/8", ""] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_is_in_a_range_of_its_family_by_the_bits_of_the_prefix() {
        for (range, address, within) in [
            ("10.96.0.0/12", "10.96.0.0", true),
            ("10.96.0.0/12", "10.111.255.255", true),
            ("10.96.0.0/12", "10.112.0.0", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.2", false),
            ("0.0.0.0/0", "255.0.0.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "fd00::1", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fc00::1", false),
            ("::ffff:0.0.0.0/96", "10.1.2.3", false),
        ] {
            assert_eq!(cidr(range).contains(address.parse().unwrap()), within, "{range} {address}");
        }
    }

    #[test]
    fn a_range_covers_those_that_are_no_wider_and_within_it() {
        for (range, other, covers) in [
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.0.0.0/8", "10.255.0.0/16", true),
            ("10.0.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.0/8", "11.0.0.0/16", false),
            ("0.0.0.0/0", "10.0.0.0/8", true),
            ("0.0.0.0/0", "fd00::/8", false),
        ] {
            assert_eq!(cidr(range).covers(&cidr(other)), covers, "{range} {other}");
        }
    }

    #[test]
    fn a_range_is_written_from_its_first_address_on() {
        for (range, normal, only) in [
            ("10.1.2.3/8", "10.0.0.0/8", "10.1.2.3/32"),
            ("10.1.2.3/0", "0.0.0.0/0", "10.1.2.3/32"),
            ("fd00::1/64", "fd00::/64", "fd00::1/128"),
        ] {
            let range = cidr(range);
            assert_eq!((range.normal(), range.only()), (cidr(normal), cidr(only)));
        }
    }
}
