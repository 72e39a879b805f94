//go:build !linux

package ledger

func (c *conn) tcpInfo() (tcpInfo, bool) { return tcpInfo{}, false }

func (c *conn) congestionControl() string { return "" }
