// Package probe finds places in programs and attaches BPF programs to them.
//
// It has three parts, used in this order:
//
//   - Find: [OpenELF] resolves names to file offsets; [FindAllocators] and
//     [Prearm] name the allocator functions of a process, by one table.
//   - Place: [Place] moves a probe from the first byte of a function to the
//     first instruction that the kernel emulates instead of single-stepping,
//     which makes a hit ten times cheaper, if nothing that the probe reads can
//     have changed on the way there. [Explain] shows the decision.
//   - Attach: an [Attacher] defines the probe, opens it for the target
//     processes and for whatever they fork, and runs a BPF program on each hit.
//     Nobody else on the machine takes a trap.
//
// Find and place work on any operating system; attach is Linux.
package probe
