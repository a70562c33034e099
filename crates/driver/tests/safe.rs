//! cudarc's safe API end to end.

mod support;

use cudarc::driver::{LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

#[test]
fn a_vector_addition() {
    let context = support::start();
    let stream = context.default_stream();
    let module = context.load_module(Ptx::from_src(support::PTX)).expect("a module");
    let add = module.load_function("add").expect("the kernel");
    let n = 1000u32;
    let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let b: Vec<f32> = (0..n).map(|i| 0.5 * i as f32).collect();
    let (a_dev, b_dev) = (stream.clone_htod(&a).expect("a"), stream.clone_htod(&b).expect("b"));
    let mut c_dev = stream.alloc_zeros::<f32>(n as usize).expect("c");
    let mut launch = stream.launch_builder(&add);
    launch.arg(&a_dev).arg(&b_dev).arg(&mut c_dev).arg(&n);
    // SAFETY: the kernel has these four parameters.
    unsafe { launch.launch(LaunchConfig::for_num_elems(n)) }.expect("the launch");
    let c = stream.clone_dtoh(&c_dev).expect("the result");
    assert!((0..n as usize).all(|i| c[i] == a[i] + b[i]));
}
