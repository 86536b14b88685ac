package format

import "testing"

// TestKinds holds the constants against the table of kinds: all fields of all
// kinds, each by the constant that names its index.
func TestKinds(t *testing.T) {
	seen := map[Kind]bool{}
	for k, fields := range map[Kind]map[int]string{
		KindAlloc:         {AllocAddr: "addr", AllocSize: "size", AllocStack: "stack", AllocFn: "fn"},
		KindRealloc:       {ReallocOld: "old", ReallocAddr: "addr", ReallocSize: "size", ReallocStack: "stack", ReallocFn: "fn", ReallocDuration: "duration"},
		KindFree:          {FreeAddr: "addr", FreeFn: "fn"},
		KindMap:           {MapAddr: "addr", MapLength: "length", MapProt: "prot", MapFlags: "flags", MapFd: "fd", MapNested: "nested", MapStack: "stack"},
		KindUnmap:         {UnmapAddr: "addr", UnmapLength: "length", UnmapNested: "nested"},
		KindRemap:         {RemapOld: "old", RemapOldLength: "old_length", RemapAddr: "addr", RemapLength: "length", RemapNested: "nested"},
		KindBrk:           {BrkOld: "old", BrkNew: "new", BrkNested: "nested"},
		KindFork:          {ForkChildPid: "child_pid", ForkChildTid: "child_tid", ForkChildSpace: "child_space", ForkSharedVM: "shared_vm", ForkThread: "thread"},
		KindExec:          {ExecPath: "path", ExecSpace: "space"},
		KindExit:          {ExitCode: "code", ExitSpaceGone: "space_gone"},
		KindComm:          {CommName: "name"},
		KindMapping:       {MappingStart: "start", MappingEnd: "end", MappingOffset: "offset", MappingModule: "module"},
		KindUnmapping:     {UnmappingStart: "start", UnmappingEnd: "end"},
		KindTCPEndpoints:  {TCPConn: "conn", EndpointsNetns: "netns", EndpointsFamily: "family", EndpointsLaddr: "laddr", EndpointsLport: "lport", EndpointsRaddr: "raddr", EndpointsRport: "rport", EndpointsUid: "uid"},
		KindTCPState:      {TCPConn: "conn", StateOld: "old", StateNew: "new", StateErr: "err", StateShutdown: "shutdown", StateTx: "tx", StateRx: "rx", StateRetransmits: "retransmits", StateSrtt: "srtt", StateMinRtt: "min_rtt", StateProcess: "process", StateSinceCall: "since_call"},
		KindTCPConnect:    {TCPConn: "conn", ConnectFd: "fd", ConnectErrno: "errno", ConnectDuration: "duration", ConnectUid: "uid", ConnectRaddr: "raddr", ConnectRport: "rport", ConnectFamily: "family", ConnectNetns: "netns"},
		KindTCPAccept:     {TCPConn: "conn", AcceptFd: "fd", AcceptUid: "uid"},
		KindTCPRetransmit: {TCPConn: "conn", RetransmitState: "state"},
		KindTCPReset:      {TCPConn: "conn", ResetDirection: "direction", ResetReason: "reason", ResetState: "state"},
		KindTCPDestroy:    {TCPConn: "conn", DestroyTx: "tx", DestroyRx: "rx", DestroyRetransmits: "retransmits", DestroyMinRtt: "min_rtt", DestroyDisconnected: "disconnected", DestroyIdle: "idle"},
		KindTCPSnapshot:   {TCPConn: "conn", SnapshotWhen: "when", SnapshotState: "state", SnapshotFd: "fd", SnapshotUid: "uid", SnapshotTx: "tx", SnapshotRx: "rx", SnapshotRetransmits: "retransmits", SnapshotSrtt: "srtt", SnapshotMinRtt: "min_rtt"},
		KindLoss:          {LossKind: "kind", LossCPU: "cpu", LossCount: "count", LossFrom: "from", LossTo: "to"},
		KindCall:          {CallProbe: "probe", CallOutcome: "outcome", CallDuration: "duration", CallDepth: "depth", CallFaults: "faults", CallStack: "stack", CallArgs: "args"},
		KindTCPStack:      {TCPConn: "conn", TCPStackAt: "at", TCPStackOld: "old", TCPStackNew: "new", TCPStackStack: "stack"},
		KindNote:          {NoteLevel: "level", NoteText: "text"},
	} {
		info := Kinds[k]
		if len(fields) != len(info.Fields) {
			t.Errorf("%s has %d fields, %d constants", info.Name, len(info.Fields), len(fields))
		}
		for i, name := range fields {
			if i >= len(info.Fields) || info.Fields[i].Name != name {
				t.Errorf("%s: the constant of field %s is %d", info.Name, name, i)
			}
		}
		seen[k] = true
	}
	for k := range Kinds {
		if !seen[Kind(k)] && k != int(KindInvalid) {
			t.Errorf("%s has no constants in this test", Kinds[k].Name)
		}
	}
}

// TestKindsAreSound checks what the codec takes for granted of the table.
func TestKindsAreSound(t *testing.T) {
	names := map[string]bool{}
	for i, k := range Kinds {
		if int(k.Kind) != i || k.Name == "" || names[k.Name] || len(k.Fields) > MaxFields || i > 0 && k.Doc == "" {
			t.Errorf("row %d of the table: %+v", i, k)
		}
		names[k.Name] = true
		births, deaths, data, fields := 0, 0, 0, map[string]bool{}
		for j, f := range k.Fields {
			if f.Name == "" || fields[f.Name] || f.Type == TypeInvalid || f.Type > TypeBytes || (f.Type == TypeEnum) != (len(f.Enum) > 0) {
				t.Errorf("%s: field %d is %+v", k.Name, j, f)
			}
			fields[f.Name] = true
			switch f.Type {
			case TypeFreed:
				deaths++
			case TypeBytes:
				data++
			case TypeBlock:
				births++
				if j+1 >= len(k.Fields) || k.Fields[j+1].Name != "size" {
					t.Errorf("%s: the field after that of the birth is not its size", k.Name)
				}
			}
		}
		if births > 1 || deaths > 1 || data > 1 {
			t.Errorf("%s has %d births, %d deaths and %d fields of bytes", k.Name, births, deaths, data)
		}
	}
	if len(heapFns) != fnCount {
		t.Errorf("%d names for %d heap functions", len(heapFns), fnCount)
	}
}
