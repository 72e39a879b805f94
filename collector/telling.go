package collector

import (
	"github.com/pantau-desa/pantau/collector/admin"
	"github.com/pantau-desa/pantau/collector/portal"
)

// mailbox is what the pages show of mails; nil without mail.
func (c *Collector) mailbox() portal.Mailbox {
	if c.alerts == nil {
		return nil
	}
	return c.alerts
}

// silencer is who silences; nil without mail.
func (c *Collector) silencer() admin.Silencer {
	if c.alerts == nil {
		return nil
	}
	return c.alerts
}
