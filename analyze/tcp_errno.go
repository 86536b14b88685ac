package analyze

import (
	"strconv"
	"strings"
)

// Linux error numbers (include/uapi/asm-generic/errno*.h): those of the
// recording machine, not of the one that analyzes.
const (
	eINTR         = 4
	ePIPE         = 32
	eNETUNREACH   = 101
	eCONNABORTED  = 103
	eCONNRESET    = 104
	eISCONN       = 106
	eTIMEDOUT     = 110
	eCONNREFUSED  = 111
	eHOSTDOWN     = 112
	eHOSTUNREACH  = 113
	eALREADY      = 114
	eINPROGRESS   = 115
	eNOPROTOOPT   = 92
	ePROTO        = 71
	eMSGSIZE      = 90
	eOPNOTSUPP    = 95
	eNETDOWN      = 100
	eNONET        = 64
	eADDRNOTAVAIL = 99
)

var errnoNames = map[uint16]string{
	1: "EPERM", 2: "ENOENT", 3: "ESRCH", eINTR: "EINTR", 5: "EIO", 6: "ENXIO", 9: "EBADF", 11: "EAGAIN", 12: "ENOMEM",
	13: "EACCES", 14: "EFAULT", 16: "EBUSY", 19: "ENODEV", 22: "EINVAL", 23: "ENFILE", 24: "EMFILE", 28: "ENOSPC",
	ePIPE: "EPIPE", eNONET: "ENONET", ePROTO: "EPROTO", 88: "ENOTSOCK", 89: "EDESTADDRREQ", eMSGSIZE: "EMSGSIZE",
	91: "EPROTOTYPE", eNOPROTOOPT: "ENOPROTOOPT", 93: "EPROTONOSUPPORT", eOPNOTSUPP: "EOPNOTSUPP", 96: "EPFNOSUPPORT",
	97: "EAFNOSUPPORT", 98: "EADDRINUSE", eADDRNOTAVAIL: "EADDRNOTAVAIL", eNETDOWN: "ENETDOWN", eNETUNREACH: "ENETUNREACH",
	102: "ENETRESET", eCONNABORTED: "ECONNABORTED", eCONNRESET: "ECONNRESET", 105: "ENOBUFS", eISCONN: "EISCONN",
	107: "ENOTCONN", 108: "ESHUTDOWN", eTIMEDOUT: "ETIMEDOUT", eCONNREFUSED: "ECONNREFUSED", eHOSTDOWN: "EHOSTDOWN",
	eHOSTUNREACH: "EHOSTUNREACH", eALREADY: "EALREADY", eINPROGRESS: "EINPROGRESS", 126: "ENOKEY", 129: "EKEYREJECTED",
}

// errnoName returns the name of a Linux error number, "errno 999" for one
// without, and "" for 0.
func errnoName(n uint16) string {
	if n == 0 {
		return ""
	}
	if s, ok := errnoNames[n]; ok {
		return s
	}
	return "errno " + strconv.Itoa(int(n))
}

// unanswered says whether an error means that nobody answered: the timer's own
// ETIMEDOUT, or what an ICMP message said meanwhile, which the kernel reports in
// its place (sk_err_soft in net/ipv4/tcp_timer.c: tcp_write_err; icmp_err_convert
// in net/ipv4/icmp.c).
func unanswered(n uint16) bool {
	switch n {
	case eTIMEDOUT, eHOSTUNREACH, eNETUNREACH, eHOSTDOWN, eNOPROTOOPT, eOPNOTSUPP, eNONET, eMSGSIZE, ePROTO:
		return true
	}
	return false
}

// enum sk_rst_reason (include/net/rstreason.h) as it is since Linux 6.12, the
// first in which a socket says why it aborts.
const (
	rstAbortOnClose = 11 // closed with unread data
	rstState        = 14 // SO_LINGER 0, or a disconnect
)

var rstReasons = []string{
	"", "NO_SOCKET", "TCP_INVALID_ACK_SEQUENCE", "TCP_RFC7323_PAWS", "TCP_TOO_OLD_ACK", "TCP_ACK_UNSENT_DATA",
	"TCP_FLAGS", "TCP_OLD_ACK", "TCP_ABORT_ON_DATA", "TCP_TIMEWAIT_SOCKET", "INVALID_SYN", "TCP_ABORT_ON_CLOSE",
	"TCP_ABORT_ON_LINGER", "TCP_ABORT_ON_MEMORY", "TCP_STATE", "TCP_KEEPALIVE_TIMEOUT",
}

// rstReasonName names a reason of a kernel whose numbers are known.
func rstReasonName(n uint16) string {
	switch {
	case int(n) < len(rstReasons):
		return rstReasons[n]
	default:
		return "reason " + strconv.Itoa(int(n))
	}
}

// knowsRstReasons says whether a kernel release ("6.18.44-cloud") numbers its
// reset reasons as rstReasons does. Before 6.12 an abort had no reason, and what
// number 11 meant depended on the release.
func knowsRstReasons(release string) bool {
	major, rest, ok := strings.Cut(release, ".")
	if !ok {
		return false
	}
	minor := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		minor = rest[:i]
	}
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	return err1 == nil && err2 == nil && (a > 6 || a == 6 && b >= 12)
}
