//! Values of systemd.network(5). Their types have alphabets in which nothing needs an escape.

use std::net::IpAddr;

use domain::{BootFile, BridgeName, DnsDomain, MacAddress, Subnet};

use super::UnitValue;

impl UnitValue {
    pub(crate) fn bridge(name: &BridgeName) -> Self {
        Self(name.to_string())
    }

    pub(crate) fn mac(address: MacAddress) -> Self {
        Self(address.to_string())
    }

    pub(crate) fn ip(address: IpAddr) -> Self {
        Self(address.to_string())
    }

    pub(crate) fn subnet(subnet: &Subnet) -> Self {
        Self(subnet.to_string())
    }

    pub(crate) fn dns_domain(domain: &DnsDomain) -> Self {
        Self(domain.to_string())
    }

    /// A name in an option of DHCP, as in `SendOption=`.
    pub(crate) fn dhcp_option(option: u8, domain: &DnsDomain) -> Self {
        Self(format!("{option}:string:{domain}"))
    }

    pub(crate) fn boot_file(file: &BootFile) -> Self {
        Self(file.to_string())
    }
}
