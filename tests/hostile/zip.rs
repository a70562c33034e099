//! Zip archives as torch.export writes them, and as nobody should.

/// An entry to be written.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    /// Where the central directory says that the local header is, if that is a lie.
    pub(crate) local: Option<u32>,
}

impl Entry {
    pub(crate) fn new(name: &str, data: &[u8]) -> Entry {
        Entry { name: name.into(), data: data.to_vec(), method: 0, flags: 0, local: None }
    }
}

/// An archive of stored entries with right checksums.
pub(crate) fn write(entries: &[Entry]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    for e in entries {
        let at = e.local.unwrap_or(file.len() as u32);
        let crc = crc32fast::hash(&e.data);
        let size = e.data.len() as u32;
        let mut common = Vec::new();
        common.extend(20u16.to_le_bytes());
        common.extend(e.flags.to_le_bytes());
        common.extend(e.method.to_le_bytes());
        common.extend([0; 4]);
        common.extend(crc.to_le_bytes());
        common.extend(size.to_le_bytes());
        common.extend(size.to_le_bytes());
        common.extend((e.name.len() as u16).to_le_bytes());
        common.extend([0; 2]);
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(&e.name);
        file.extend(&e.data);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(&e.name);
    }
    let start = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend((entries.len() as u16).to_le_bytes());
    file.extend((entries.len() as u16).to_le_bytes());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0; 2]);
    file
}

/// The entries of a sound archive.
pub(crate) fn read(file: &[u8]) -> Vec<Entry> {
    let archive = zeroforge_import::archive::Archive::parse(file).expect("a sound archive");
    let names: Vec<String> = archive.names().map(str::to_owned).collect();
    names.iter().map(|n| Entry::new(n, &file[archive.range(file, n).expect("an entry")])).collect()
}
