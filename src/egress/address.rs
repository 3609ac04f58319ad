//! Which addresses a name may lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// True for an address of the public internet: not ours, not the neighbours', not a cloud's metadata service
/// (169.254.169.254, `fd00:ec2::254`), by the registries of IANA for special-purpose addresses (RFC 6890).
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// True for an address inside somebody's house, where a company's registry may be: this machine's own, the neighbours',
/// and those that a resolver of its own makes up for a way out (198.18.0.0/15). Link-local ones are not among them:
/// nobody's registry is there, and a cloud's metadata service is.
pub(super) fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_inside_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_inside_v4(mapped),
            // EC2 has its metadata service among the unique local ones.
            None => {
                let goes_nowhere =
                    address.is_unspecified() || address.is_multicast() || address.is_unicast_link_local();
                !goes_nowhere && !is_public_v6(address) && address != METADATA_V6
            }
        },
    }
}

const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

fn is_inside_v4(address: Ipv4Addr) -> bool {
    let [a, ..] = address.octets();
    let goes_nowhere = a == 0 || a >= 240 || address.is_multicast() || address.is_link_local();
    !goes_nowhere && !is_public_v4(address) && address != METADATA_V4
}

/// Alibaba's metadata service, within the addresses of RFC 6598.
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    let shared = a == 100 && (64..128).contains(&b); // RFC 6598
    let benchmarking = a == 198 && (b == 18 || b == 19); // RFC 2544
    let protocols = address.octets()[..3] == [192, 0, 0]; // RFC 6890
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || shared
        || benchmarking
        || protocols)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // An IPv4 address in other clothes: mapped, NAT64 (RFC 6052) and 6to4 (RFC 3056).
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => is_public_v4(v4(high, low)),
        // Everything public is in 2000::/3; 2001:db8::/32 is for documentation, 2001::/32 is Teredo.
        [first, second, ..] => first & 0xe000 == 0x2000 && !(first == 0x2001 && (second == 0xdb8 || second == 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_are_public() {
        for public in ["1.1.1.1", "140.82.121.4", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:1.1.1.1"] {
            assert!(is_public(public.parse().expect("an address")), "{public}");
        }
        for private in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2001:db8::1",
        ] {
            assert!(!is_public(private.parse().expect("an address")), "{private}");
        }
    }

    #[test]
    fn which_are_inside_a_house() {
        for inside in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "::1",
            "198.18.0.7",
            "fd12::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_inside(inside.parse().expect("an address")), "{inside}");
        }
        for other in
            ["1.1.1.1", "169.254.169.254", "100.100.100.200", "0.0.0.0", "224.0.0.1", "fd00:ec2::254", "fe80::1", "::"]
        {
            assert!(!is_inside(other.parse().expect("an address")), "{other}");
        }
    }
}
