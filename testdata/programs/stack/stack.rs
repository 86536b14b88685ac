// Allocates in Rust as programs do: in the library's containers, in closures behind
// trait objects, in a thread, and while a panic unwinds. "stack SIZE FUNCTION..." says
// which functions a block of that size is from.
use std::collections::BTreeMap;
use std::panic;

// What is read this way is not optimised away.
fn keep<T: Copy>(v: T) -> T {
    unsafe { std::ptr::read_volatile(&v) }
}

extern "C" {
    fn malloc(n: usize) -> *mut u8;
    fn free(p: *mut u8);
}

#[no_mangle]
#[inline(never)]
pub fn leaf(n: usize) -> usize {
    let p = unsafe { malloc(n) };
    let v = keep(p) as usize;
    unsafe { free(p) };
    keep(v)
}

struct Guard(usize);
impl Drop for Guard {
    #[inline(never)]
    fn drop(&mut self) {
        keep(leaf(self.0));
        let text = "dropped ".repeat(self.0 % 5 + 4);
        keep(text.len());
    }
}

#[no_mangle]
#[inline(never)]
fn unlucky(n: usize) -> usize {
    let _guard = Guard(n);
    if n > 0 {
        panic!("as planned {}", n);
    }
    n
}

#[no_mangle]
#[inline(never)]
fn apply(f: &dyn Fn(usize) -> usize, n: usize) -> usize {
    keep(f(n) + 1)
}

#[no_mangle]
#[inline(never)]
fn containers(n: usize) -> BTreeMap<String, Vec<Box<usize>>> {
    let mut map = BTreeMap::new();
    for i in 0..n {
        map.insert(format!("a key that has the number {}", i), (0..i).map(Box::new).collect());
    }
    map
}

fn main() {
    panic::set_hook(Box::new(|_| {}));
    let map = containers(12);
    let f = |n: usize| {
        let mut v: Vec<usize> = map.values().map(|v| v.len()).collect();
        v.sort_by(|a, b| {
            keep(leaf(2000 + *a + 100 * *b));
            b.cmp(a)
        });
        v[0] + n
    };
    keep(apply(&f, 7));
    keep(panic::catch_unwind(|| unlucky(1901)).is_err());
    std::thread::spawn(|| keep(leaf(1902))).join().unwrap();
    keep(leaf(1903));
    print!("stack 1901 leaf drop *\nstack 1902 leaf *\nstack 1903 leaf main *\n");
}
