//! Runs PTX kernels in tests: memory with contents, launch, report.

#![allow(dead_code, unreachable_pub, reason = "every test file uses its part")]

use zeroforge_emulator::{
    Device, DeviceMemory, LaunchConfig, Options, Program, Report, Schedule, launch,
};

/// A module with memory, ready to launch.
pub struct Bench {
    pub memory: DeviceMemory,
    pub program: Program,
    pub options: Options,
    params: Vec<u8>,
    cluster: [u32; 3],
    shared: u32,
}

impl Bench {
    /// Parses, verifies and decodes a module.
    pub fn new(ptx: &str) -> Bench {
        let module = zeroforge_ptx::parse(ptx).unwrap_or_else(|e| panic!("parsing: {e}"));
        record(&module);
        let memory = DeviceMemory::new(1 << 30);
        let program = Program::load(&module, &memory).unwrap_or_else(|e| panic!("loading: {e}"));
        let options = Options::default();
        Bench { memory, program, options, params: Vec::new(), cluster: [1; 3], shared: 0 }
    }

    /// Blocks per cluster.
    pub fn cluster(&mut self, cluster: [u32; 3]) -> &mut Bench {
        self.cluster = cluster;
        self
    }

    /// Bytes of dynamic shared memory.
    pub fn dynamic_shared(&mut self, bytes: u32) -> &mut Bench {
        self.shared = bytes;
        self
    }

    /// The order of asynchronous work.
    pub fn schedule(&mut self, schedule: Schedule) -> &mut Bench {
        self.options.schedule = schedule;
        self
    }

    /// Device memory with contents; its address.
    pub fn buffer(&self, bytes: &[u8]) -> u64 {
        let address = self.memory.alloc(bytes.len() as u64).expect("room");
        self.memory.write(address, bytes).expect("inside");
        address
    }

    /// Device memory that nothing wrote.
    pub fn unwritten(&self, bytes: usize) -> u64 {
        self.memory.alloc(bytes as u64).expect("room")
    }

    /// Contents of device memory.
    pub fn read(&self, address: u64, bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        self.memory.read(address, &mut out).expect("inside");
        out
    }

    pub fn read_u32(&self, address: u64, count: usize) -> Vec<u32> {
        let bytes = self.read(address, count * 4);
        bytes.chunks(4).map(|c| u32::from_le_bytes(c.try_into().expect("four"))).collect()
    }

    pub fn read_f32(&self, address: u64, count: usize) -> Vec<f32> {
        self.read_u32(address, count).into_iter().map(f32::from_bits).collect()
    }

    /// Forgets the parameters given so far.
    pub fn no_params(&mut self) -> &mut Bench {
        self.params.clear();
        self
    }

    /// Appends a parameter, aligned to `align`.
    pub fn param(&mut self, bytes: &[u8], align: usize) -> &mut Bench {
        self.params.resize(self.params.len().next_multiple_of(align), 0);
        self.params.extend(bytes);
        self
    }

    pub fn param_u64(&mut self, value: u64) -> &mut Bench {
        self.param(&value.to_le_bytes(), 8)
    }

    pub fn param_u32(&mut self, value: u32) -> &mut Bench {
        self.param(&value.to_le_bytes(), 4)
    }

    /// Launches; findings are in the report.
    pub fn launch(&self, kernel: &str, grid: [u32; 3], block: [u32; 3]) -> Report {
        let config = LaunchConfig {
            grid,
            block,
            cluster: self.cluster,
            dynamic_shared: self.shared,
            params: self.params.clone(),
        };
        launch(&self.program, kernel, &config, &self.memory, &Device::default(), &self.options)
            .unwrap_or_else(|e| panic!("launching: {e}"))
    }

    /// Launches a kernel that must have no finding.
    pub fn launch_clean(&self, kernel: &str, grid: [u32; 3], block: [u32; 3]) -> Report {
        let report = self.launch(kernel, grid, block);
        let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "findings:\n{}", errors.join("\n"));
        report
    }
}

/// For the coverage page: the rows of the instruction table that the kernels of a module use, kept per test
/// file in the folder that `ZEROFORGE_COVERAGE` names.
pub fn record(module: &zeroforge_ptx::Module) {
    let Some(folder) = std::env::var_os("ZEROFORGE_COVERAGE") else { return };
    let test = std::env::current_exe().expect("a test binary");
    let test = test.file_stem().expect("a name").to_string_lossy().into_owned();
    let test = test.rsplit_once('-').map_or(test.as_str(), |(name, _)| name);
    let bodies = module.functions.iter().filter_map(|f| f.body.as_ref());
    let rows: std::collections::BTreeSet<&str> =
        bodies.flat_map(|b| &b.instructions).map(|i| i.form.pattern).collect();
    let text: String = rows.into_iter().map(|r| format!("{r}\n")).collect();
    let number = format!("{:?}", std::thread::current().id());
    let id: String = number.chars().filter(char::is_ascii_digit).collect();
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let name = format!("{test}.{id}.{}.txt", at.as_nanos());
    std::fs::write(std::path::Path::new(&folder).join(name), text).expect("a coverage file");
}
