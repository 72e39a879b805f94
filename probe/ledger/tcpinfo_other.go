//go:build !linux

package ledger

import (
	"errors"
	"syscall"
)

func (c *conn) tcpInfo() (tcpInfo, bool) { return tcpInfo{}, false }

func (c *conn) congestionControl() string { return "" }

func throughInterface(name string) func(network, address string, c syscall.RawConn) error {
	if name == "" {
		return nil
	}
	return func(string, string, syscall.RawConn) error { return errors.ErrUnsupported }
}
