//! Devices and their attributes.

use std::ffi::c_char;

use zeroforge_emulator::Device;

use crate::abi::{InStr, Out, set_text};
use crate::error::{Error, Res};
use crate::log;
use crate::state::lock;
use crate::types::{DevProp, Handle};

/// The version that the driver says it has: CUDA 13.1 is the one whose PTX ISA (9.1) `zeroforge-ptx` knows, and a driver
/// serves every program built for its own or an older version.
pub const VERSION: i32 = 13_010;

/// A card to emulate.
#[derive(Debug)]
pub struct Spec {
    /// What `ZEROFORGE_SOFTWARE_DEVICE` calls it.
    pub key: &'static str,
    /// What cuDeviceGetName says.
    pub name: &'static str,
    /// Bytes of memory.
    pub memory: u64,
    /// Multiprocessors.
    pub sm_count: u32,
    /// SM clock.
    pub clock_khz: i32,
    /// Memory clock.
    pub memory_clock_khz: i32,
    /// Width of the memory bus.
    pub bus_bits: i32,
    /// L2 cache.
    pub l2_bytes: i32,
    /// Memory bandwidth.
    pub bytes_per_ns: u64,
    /// Whether devices can reach each other's memory: MIG slices cannot.
    pub peers: bool,
}

/// The cards. SM counts and memory are those of the devices ZeroGPU lends; clocks and caches those of NVIDIA's
/// data sheets, for a slice its share.
const SPECS: [Spec; 3] = [
    Spec {
        key: "h200-3g.71gb",
        name: "NVIDIA H200 MIG 3g.71gb (zeroforge software device)",
        memory: 74_625_056_768,
        sm_count: 60,
        clock_khz: 1_980_000,
        memory_clock_khz: 3_201_000,
        bus_bits: 3072,
        l2_bytes: 30 << 20,
        bytes_per_ns: 2400,
        peers: false,
    },
    Spec {
        key: "h200",
        name: "NVIDIA H200 (zeroforge software device)",
        memory: 143_156 << 20,
        sm_count: 132,
        clock_khz: 1_980_000,
        memory_clock_khz: 3_201_000,
        bus_bits: 6144,
        l2_bytes: 60 << 20,
        bytes_per_ns: 4800,
        peers: true,
    },
    Spec {
        key: "h100",
        name: "NVIDIA H100 80GB HBM3 (zeroforge software device)",
        memory: 81_089 << 20,
        sm_count: 132,
        clock_khz: 1_980_000,
        memory_clock_khz: 2_619_000,
        bus_bits: 5120,
        l2_bytes: 50 << 20,
        bytes_per_ns: 3350,
        peers: true,
    },
];

impl Spec {
    /// What the emulator wants to know of it.
    pub fn emulated(&self) -> Device {
        Device::hopper(self.sm_count)
    }
}

/// Most devices of a process.
const MAX_DEVICES: usize = 16;

/// The card and the number of devices that the environment asks for.
pub fn from_environment() -> (&'static Spec, usize) {
    let spec = match std::env::var("ZEROFORGE_SOFTWARE_DEVICE") {
        Err(_) => &SPECS[0],
        Ok(key) => SPECS.iter().find(|s| s.key == key).unwrap_or_else(|| {
            log::error(|| {
                let known: Vec<&str> = SPECS.iter().map(|s| s.key).collect();
                format!(
                    "ZEROFORGE_SOFTWARE_DEVICE={key} is none of {}; using {}",
                    known.join(", "),
                    SPECS[0].key
                )
            });
            &SPECS[0]
        }),
    };
    let count = match std::env::var("ZEROFORGE_SOFTWARE_DEVICE_COUNT") {
        Err(_) => 1,
        Ok(text) => text.parse::<usize>().ok().filter(|&n| n <= MAX_DEVICES).unwrap_or_else(|| {
            log::error(|| {
                format!("ZEROFORGE_SOFTWARE_DEVICE_COUNT={text} is not a number from 0 to {MAX_DEVICES}; using 1")
            });
            1
        }),
    };
    (spec, count)
}

/// Dynamic shared memory that a block may have without opting in.
pub const SHARED_WITHOUT_OPT_IN: u32 = 48 * 1024;

/// An attribute by its number (CUDA C++ Programming Guide, technical specifications of compute capability 9.0; texture
/// and surface limits from the same table). None for numbers that are none.
fn attribute(attribute: u32, spec: &Spec, device: usize) -> Option<i32> {
    let hw = spec.emulated();
    Some(match attribute {
        1 => 1024,
        2 | 3 => 1024,
        4 => 64,
        5 => i32::MAX,
        6 | 7 => 65_535,
        8 => SHARED_WITHOUT_OPT_IN as i32,
        9 => 65_536,
        10 => 32,
        11 => i32::MAX,
        12 => 65_536,
        13 => spec.clock_khz,
        14 => 512,
        15 => 1,
        16 => spec.sm_count as i32,
        17 | 18 => 0,
        19 => 1,
        20 => 0,
        21 | 22 => 131_072,
        23 => 65_536,
        24..=26 => 16_384,
        27 | 28 => 32_768,
        29 => 2048,
        30 => 512,
        31 => 1,
        32 => 1,
        33 => device as i32 + 1,
        34 | 35 => 0,
        36 => spec.memory_clock_khz,
        37 => spec.bus_bits,
        38 => spec.l2_bytes,
        39 => hw.threads_per_sm as i32,
        40 => 3,
        41 => 1,
        42 => 32_768,
        43 => 2048,
        44 => 1,
        45 | 46 => 32_768,
        47..=49 => 16_384,
        50 => 0,
        51 => 32,
        52 | 53 => 32_768,
        54 => 2046,
        55 => 32_768,
        56 => 131_072,
        57 => 65_536,
        58..=60 => 16_384,
        61 => 32_768,
        62 => 2048,
        63 | 64 => 32_768,
        65 => 2048,
        66 | 67 => 32_768,
        68 => 2046,
        69 => 268_435_456,
        70 => 131_072,
        71 => 65_000,
        72 => 2_097_120,
        73 | 74 => 32_768,
        75 => 9,
        76 => 0,
        77 => 32_768,
        78..=80 => 1,
        81 => hw.shared_per_sm as i32,
        82 => hw.registers_per_sm as i32,
        83 => 1,
        84 => 0,
        85 => device as i32,
        86 => 0,
        87 => 2,
        88 => 0,
        89..=91 => 1,
        92..=94 => 1,
        95 => 1,
        96 => 0,
        97 => hw.max_shared_per_block as i32,
        98 => 0,
        99 => 1,
        100 | 101 => 0,
        102 => 1,
        103..=105 => 0,
        106 => hw.blocks_per_sm as i32,
        107 => 0,
        108 => spec.l2_bytes / 8 * 5,
        109 => 128 << 20,
        110 => 0,
        111 => 1024,
        112 => 0,
        113 => 1,
        114 => 0,
        115 => 1,
        116 | 117 => 0,
        118 => 0,
        119 => 0,
        120 => 1,
        121 => 0,
        122 | 123 => 1,
        124 | 125 => 0,
        126 => 4,
        127 => 1,
        128 => 0,
        129 => 0,
        130 => 0,
        131 => -1,
        132 | 133 => 0,
        134 => 0,
        135..=138 => 0,
        139 => 0x2335_10de,
        140 => 0x18be_10de,
        141..=147 => 0,
        148 => 0,
        _ => return None,
    })
}

fn uuid(device: usize) -> [u8; 16] {
    let mut id = *b"zeroforge-soft\0\0";
    id[15] = device as u8;
    id
}

fn pci_bus_id(device: usize) -> String {
    format!("0000:{:02X}:00.0", device + 1)
}

api! {
    fn cuInit(flags: u32) {
        if flags != 0 {
            return Err(Error::INVALID_VALUE);
        }
        let mut s = lock();
        if s.devices.is_empty() {
            return Err(Error::NO_DEVICE);
        }
        if !s.initialised {
            s.initialised = true;
            let (spec, count) = (s.spec, s.devices.len());
            log::info(|| format!("{count} x {}", spec.name));
        }
        Ok(())
    }

    fn cuDriverGetVersion(version: Out<i32>) {
        version.set(VERSION)
    }

    fn cuDeviceGet(device: Out<i32>, ordinal: i32) {
        let found = lock().device(ordinal)?;
        device.set(found as i32)
    }

    fn cuDeviceGetCount(count: Out<i32>) {
        let s = lock();
        s.ready()?;
        count.set(s.devices.len() as i32)
    }

    fn cuDeviceGetName(name: Out<c_char>, len: i32, device: i32) {
        let s = lock();
        s.device(device)?;
        set_text(name, usize::try_from(len).map_err(|_| Error::INVALID_VALUE)?, s.spec.name)
    }

    fn cuDeviceGetUuid(to: Out<[u8; 16]>, device: i32) [cuDeviceGetUuid_v2] {
        to.set(uuid(lock().device(device)?))
    }

    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: i32) {
        let s = lock();
        s.device(device)?;
        bytes.set(s.spec.memory as usize)
    }

    fn cuDeviceGetAttribute(value: Out<i32>, which: u32, device: i32) {
        let s = lock();
        let device = s.device(device)?;
        value.set(attribute(which, s.spec, device).ok_or(Error::INVALID_VALUE)?)
    }

    fn cuDeviceGetProperties(to: Out<DevProp>, device: i32) {
        let s = lock();
        s.device(device)?;
        to.set(DevProp {
            max_threads_per_block: 1024,
            max_threads_dim: [1024, 1024, 64],
            max_grid_size: [i32::MAX, 65_535, 65_535],
            shared_per_block: SHARED_WITHOUT_OPT_IN as i32,
            constant: 65_536,
            warp: 32,
            pitch: i32::MAX,
            registers: 65_536,
            clock_khz: s.spec.clock_khz,
            texture_align: 512,
        })
    }

    fn cuDeviceComputeCapability(major: Out<i32>, minor: Out<i32>, device: i32) {
        lock().device(device)?;
        major.set(9)?;
        minor.set(0)
    }

    fn cuDeviceGetPCIBusId(to: Out<c_char>, len: i32, device: i32) {
        let device = lock().device(device)?;
        set_text(to, usize::try_from(len).map_err(|_| Error::INVALID_VALUE)?, &pci_bus_id(device))
    }

    fn cuDeviceGetByPCIBusId(to: Out<i32>, id: InStr) {
        let s = lock();
        s.ready()?;
        let id = id.get()?.to_uppercase();
        let short = |d: usize| pci_bus_id(d)[5..].to_owned();
        let found = (0..s.devices.len()).find(|&d| {
            let full = pci_bus_id(d);
            id == full || id == short(d) || id == full.trim_end_matches(".0")
        });
        to.set(found.ok_or(Error::INVALID_DEVICE)? as i32)
    }

    fn cuDeviceGetExecAffinitySupport(to: Out<i32>, kind: u32, device: i32) {
        lock().device(device)?;
        if kind != 0 {
            return Err(Error::INVALID_VALUE);
        }
        to.set(0)
    }

    fn cuDeviceCanAccessPeer(to: Out<i32>, device: i32, peer: i32) {
        let s = lock();
        let (device, peer) = (s.device(device)?, s.device(peer)?);
        to.set(i32::from(device != peer && s.spec.peers))
    }

    fn cuDeviceGetP2PAttribute(to: Out<i32>, which: u32, device: i32, peer: i32) {
        let s = lock();
        let (device, peer) = (s.device(device)?, s.device(peer)?);
        if device == peer {
            return Err(Error::INVALID_DEVICE);
        }
        match which {
            1 | 4 | 5 => to.set(0),
            2 | 3 => to.set(i32::from(s.spec.peers)),
            _ => Err(Error::INVALID_VALUE),
        }
    }

    fn cuDeviceGetDefaultMemPool(pool: Out<Handle>, device: i32) {
        let s = lock();
        let device = s.device(device)?;
        pool.set(s.devices[device].default_pool)
    }

    fn cuDeviceGetMemPool(pool: Out<Handle>, device: i32) {
        let s = lock();
        let device = s.device(device)?;
        pool.set(s.devices[device].pool)
    }

    fn cuDeviceSetMemPool(device: i32, pool: Handle) {
        let mut s = lock();
        let device = s.device(device)?;
        let found = s.pools.get(&pool).ok_or(Error::INVALID_VALUE)?;
        if found.device != device {
            return Err(Error::INVALID_DEVICE);
        }
        s.devices[device].pool = pool;
        Ok(())
    }
}

/// Checks that a device ordinal is one and gives it.
pub fn ordinal(device: i32) -> Res<usize> {
    lock().device(device)
}
