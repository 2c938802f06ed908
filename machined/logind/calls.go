package logind

import (
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// Names on the bus.
const (
	busName      = "org.freedesktop.DBus"
	loginName    = "org.freedesktop.login1"
	loginManager = "org.freedesktop.login1.Manager"
	loginPath    = dbus.ObjectPath("/org/freedesktop/login1")
	// loginUnique is the connection that owns loginName: this process has none.
	loginUnique = ":1.0"
)

// maxDelay is what logind says an inhibitor may delay a shutdown by. kubelet
// would write systemd's config if it were less than its grace period, which
// machine.kubelet.shutdownGracePeriod keeps below an hour.
const maxDelay = 2 * time.Hour

// Errors of the bus.
var (
	errUnknownMethod   = &dbus.Error{Name: "org.freedesktop.DBus.Error.UnknownMethod", Body: []any{"this bus has only what kubelet asks of logind"}}
	errUnknownProperty = &dbus.Error{Name: "org.freedesktop.DBus.Error.UnknownProperty", Body: []any{"logind's only property here is InhibitDelayMaxUSec"}}
	errNoOwner         = &dbus.Error{Name: "org.freedesktop.DBus.Error.NameHasNoOwner", Body: []any{"only logind is on this bus"}}
	errNotGreeted      = &dbus.Error{Name: "org.freedesktop.DBus.Error.AccessDenied", Body: []any{"the first call is Hello"}}
	errOnlyDelays      = &dbus.Error{Name: "org.freedesktop.DBus.Error.NotSupported", Body: []any{"only shutdown can be inhibited, and only delayed"}}
	errTooMany         = &dbus.Error{Name: "org.freedesktop.DBus.Error.LimitsExceeded", Body: []any{fmt.Sprintf("%d delay the shutdown already", maxInhibitors)}}
	errGoingDown       = &dbus.Error{Name: "org.freedesktop.login1.OperationInProgress", Body: []any{"the node is going down already"}}
)

// answer does what a call asks for. Its error is the connection's end.
func (c *client) answer(call *dbus.Message) error {
	method := text(call.Headers[dbus.FieldInterface]) + "." + text(call.Headers[dbus.FieldMember])
	if !c.greeted && method != busName+".Hello" {
		return c.refuse(call, errNotGreeted)
	}
	switch method {
	case busName + ".Hello":
		c.greeted = true
		return c.reply(call, busName, c.name)
	case busName + ".AddMatch":
		c.match(+1)
		return c.reply(call, busName)
	case busName + ".RemoveMatch":
		c.match(-1)
		return c.reply(call, busName)
	case busName + ".NameHasOwner":
		return c.reply(call, busName, argument(call, 0) == loginName)
	case busName + ".GetNameOwner":
		if argument(call, 0) != loginName {
			return c.refuse(call, errNoOwner)
		}
		return c.reply(call, busName, loginUnique)
	case busName + ".Peer.Ping":
		return c.reply(call, busName)
	case busName + ".Properties.Get":
		if argument(call, 0) != loginManager || argument(call, 1) != "InhibitDelayMaxUSec" {
			return c.refuse(call, errUnknownProperty)
		}
		return c.reply(call, loginUnique, dbus.MakeVariant(uint64(maxDelay.Microseconds())))
	case loginManager + ".Inhibit":
		return c.inhibit(call)
	default:
		return c.refuse(call, errUnknownMethod)
	}
}

// text is a header's value, empty when it is not there.
func text(header dbus.Variant) string {
	value, _ := header.Value().(string)
	return value
}

// argument is one of a call's arguments, empty when it is no text.
func argument(call *dbus.Message, i int) string {
	if i >= len(call.Body) {
		return ""
	}
	value, _ := call.Body[i].(string)
	return value
}

func (c *client) match(change int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.matches = max(0, c.matches+change)
}

// prepareForShutdown sends logind's signal to a client that asked for it.
func (c *client) prepareForShutdown() error {
	c.mu.Lock()
	wanted := c.matches > 0
	c.mu.Unlock()
	if !wanted {
		return nil
	}
	return c.send(&dbus.Message{
		Type:  dbus.TypeSignal,
		Flags: dbus.FlagNoReplyExpected,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath:      dbus.MakeVariant(loginPath),
			dbus.FieldInterface: dbus.MakeVariant(loginManager),
			dbus.FieldMember:    dbus.MakeVariant("PrepareForShutdown"),
			dbus.FieldSender:    dbus.MakeVariant(loginUnique),
		},
		Body: []any{true},
	})
}
