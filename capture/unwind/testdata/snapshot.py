# Run by gdb: writes what the present stop is made of, as JSON, to $snapshot_out:
# registers, the stack's bytes, what is mapped, and gdb's own idea of the frames.
import base64, json, re, gdb

AMD64 = "rip rsp rbp rax rbx rcx rdx rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
ARM64 = ["pc", "sp"] + ["x%d" % i for i in range(31)]


def register(name):
    return int(gdb.parse_and_eval("(unsigned long)$" + name)) & (1 << 64) - 1


def frames():
    frame, out = gdb.newest_frame(), []
    while frame is not None and len(out) < 2000:
        if frame.type() != gdb.INLINE_FRAME:
            name = frame.name()
            out.append({"pc": frame.pc(), "name": name or "", "signal": frame.type() == gdb.SIGTRAMP_FRAME})
        try:
            frame = frame.older()
        except gdb.error:
            break
    return out


def mappings():
    out = []
    for line in open("/proc/%d/maps" % gdb.selected_inferior().pid):
        part = line.split(None, 5)
        start, end = (int(x, 16) for x in part[0].split("-"))
        out.append({"start": start, "end": end, "offset": int(part[2], 16), "exec": "x" in part[1], "path": part[5].strip() if len(part) > 5 else ""})
    return out


def write(path, size):
    arch = gdb.selected_inferior().architecture().name()
    names = AMD64 if "x86" in arch else ARM64
    regs = {name: register(name) for name in names}
    maps = mappings()
    sp = regs["rsp" if "rsp" in regs else "sp"]
    end = next(m["end"] for m in maps if m["start"] <= sp < m["end"])
    read = lambda at, n: base64.b64encode(gdb.selected_inferior().read_memory(at, n).tobytes()).decode()
    images = {m["path"]: read(m["start"], m["end"] - m["start"]) for m in maps if m["path"] == "[vdso]"}
    gdb.execute("set backtrace past-main on")
    gdb.execute("set backtrace past-entry on")
    with open(path, "w") as f:
        json.dump({"regs": regs, "stack": read(sp, min(size, end - sp)), "maps": maps, "images": images, "frames": frames()}, f)
