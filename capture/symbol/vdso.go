package symbol

// VDSOName is what /proc/PID/maps and captures call the vdso: code of the kernel's
// that every program has mapped, to be told the time without a system call
// (vdso(7)). It is an ELF file that is in memory only.
const VDSOName = "[vdso]"
