//! Archives made block by block, for what no writer would write.
#![allow(dead_code)]

pub mod layout;
pub mod others;
pub mod reading;

pub const END: [u8; 1024] = [0; 1024];

#[derive(Clone)]
pub struct Block {
    header: [u8; 512],
    data: Vec<u8>,
    signed: bool,
}

impl Block {
    pub fn new(name: &str, kind: u8) -> Block {
        let mut block = Block { header: [0; 512], data: Vec::new(), signed: false };
        let fields: [(usize, &[u8]); 7] = [
            (0, name.as_bytes()),
            (100, b"0000644\0"),
            (108, b"0000000\0"),
            (116, b"0000000\0"),
            (124, b"00000000000\0"),
            (136, b"00000000001\0"),
            (257, b"ustar\x0000"),
        ];
        for (at, bytes) in fields {
            block = block.field(at, bytes);
        }
        block.field(156, &[kind])
    }

    pub fn file(name: &str, data: &[u8]) -> Block {
        Block { data: data.to_vec(), ..Block::new(name, b'0') }.size(data.len() as u64)
    }

    pub fn field(mut self, at: usize, bytes: &[u8]) -> Block {
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn magic(self, magic: &[u8; 8]) -> Block {
        self.field(257, magic)
    }

    pub fn link(self, target: &str) -> Block {
        self.field(157, target.as_bytes())
    }

    pub fn size(self, size: u64) -> Block {
        self.field(124, format!("{size:011o}\0").as_bytes())
    }

    pub fn uid(self, uid: u64) -> Block {
        self.field(108, format!("{uid:07o}\0").as_bytes())
    }

    pub fn mode(self, mode: u32) -> Block {
        self.field(100, format!("{mode:07o}\0").as_bytes())
    }

    pub fn data(mut self, data: &[u8]) -> Block {
        self.data = data.to_vec();
        self
    }

    pub fn with_signed_checksum(mut self) -> Block {
        self.signed = true;
        self
    }

    pub fn header(&self) -> Vec<u8> {
        let mut header = self.header;
        header[148..156].fill(b' ');
        let sum: i64 = header.iter().map(|&b| if self.signed { i64::from(b as i8) } else { i64::from(b) }).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header.to_vec()
    }

    pub fn bytes(&self) -> Vec<u8> {
        [self.header(), padded(&self.data)].concat()
    }
}

pub fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

/// One PAX record, its length worked out.
pub fn record(key: &str, value: &str) -> String {
    let body = key.len() + value.len() + 3;
    let length = (body..).find(|length| body + length.to_string().len() == *length).unwrap();
    format!("{length} {key}={value}\n")
}

pub fn extended(records: &[String]) -> Vec<u8> {
    let body = records.concat();
    Block { data: body.clone().into_bytes(), ..Block::new("PaxHeaders/x", b'x').size(body.len() as u64) }.bytes()
}

pub fn global(records: &[String]) -> Vec<u8> {
    let body = records.concat();
    Block { data: body.clone().into_bytes(), ..Block::new("PaxHeaders/g", b'g').size(body.len() as u64) }.bytes()
}

pub fn long(name: &str) -> Vec<u8> {
    gnu_long(name, b'L')
}

pub fn long_link(target: &str) -> Vec<u8> {
    gnu_long(target, b'K')
}

fn gnu_long(text: &str, kind: u8) -> Vec<u8> {
    let data = format!("{text}\0").into_bytes();
    Block { data: data.clone(), ..Block::new("././@LongLink", kind).magic(b"ustar  \0").size(data.len() as u64) }
        .bytes()
}
