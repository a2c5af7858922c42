//! Messages of our own.

use std::net::SocketAddr;

use super::{
    Change, Class, HEADER_LEN, SEAL, SIGNATURE, TransactionId, attribute, fingerprint, mask, seal_of,
    signature_of, type_of,
};

/// Writes a Binding message attribute by attribute.
#[derive(Clone, Debug)]
pub struct Writer {
    pub(super) bytes: Vec<u8>,
    pub(super) transaction: TransactionId,
}

impl Writer {
    /// Without attributes yet.
    pub fn new(class: Class, transaction: TransactionId) -> Writer {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(type_of(class).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(super::COOKIE.to_be_bytes());
        bytes.extend(transaction);
        Writer { bytes, transaction }
    }

    /// A Binding request.
    pub fn request(transaction: TransactionId) -> Writer {
        Writer::new(Class::Request, transaction)
    }

    /// One attribute.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Writer {
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend((value.len() as u16).to_be_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// XOR-MAPPED-ADDRESS.
    pub fn mapped(self, address: SocketAddr) -> Writer {
        let value = address_value(address, &mask(&self.transaction));
        self.attribute(attribute::XOR_MAPPED_ADDRESS, &value)
    }

    /// An address as it is: MAPPED-ADDRESS, RESPONSE-ORIGIN, OTHER-ADDRESS.
    pub fn address(self, kind: u16, address: SocketAddr) -> Writer {
        self.attribute(kind, &address_value(address, &[0; 16]))
    }

    /// CHANGE-REQUEST; nothing when nothing is to change.
    pub fn change(self, change: Change) -> Writer {
        match u8::from(change.ip) << 2 | u8::from(change.port) << 1 {
            0 => self,
            flags => self.attribute(attribute::CHANGE_REQUEST, &[0, 0, 0, flags]),
        }
    }

    /// ERROR-CODE.
    pub fn error(self, status: u16, words: &str) -> Writer {
        let mut value = vec![0, 0, (status / 100) as u8, (status % 100) as u8];
        value.extend(words.bytes());
        self.attribute(attribute::ERROR_CODE, &value)
    }

    /// Sealed under a key, with FINGERPRINT: whole.
    pub fn seal(self, key: &[u8]) -> Vec<u8> {
        let seal: [u8; SEAL] = seal_of(key, &self.bytes);
        self.attribute(attribute::MESSAGE_INTEGRITY_SHA256, &seal).finish()
    }

    /// Signed under a key as ICE does it, with FINGERPRINT: whole.
    pub fn sign(self, key: &[u8]) -> Vec<u8> {
        let signature: [u8; SIGNATURE] = signature_of(key, &self.bytes);
        self.attribute(attribute::MESSAGE_INTEGRITY, &signature).finish()
    }

    /// With FINGERPRINT: whole.
    pub fn finish(self) -> Vec<u8> {
        let sum = fingerprint(&self.bytes).to_be_bytes();
        let mut bytes = self.attribute(attribute::FINGERPRINT, &sum).bytes;
        let length = ((bytes.len() - HEADER_LEN) as u16).to_be_bytes();
        bytes[2..4].copy_from_slice(&length);
        bytes
    }
}

fn address_value(address: SocketAddr, mask: &[u8; 16]) -> Vec<u8> {
    let [high, low] = address.port().to_be_bytes();
    let mut value = match address {
        SocketAddr::V4(v4) => [vec![0, 1, high, low], v4.ip().octets().to_vec()].concat(),
        SocketAddr::V6(v6) => [vec![0, 2, high, low], v6.ip().octets().to_vec()].concat(),
    };
    value[2] ^= mask[0];
    value[3] ^= mask[1];
    value[4..].iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    value
}
