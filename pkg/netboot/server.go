package netboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/pin/tftp/v3"
	"golang.org/x/sync/errgroup"
)

// What is served, by HTTP; the image also by TFTP.
const (
	imageFile    = "keelson-netboot.efi"
	kernelFile   = "vmlinuz"
	initrdFile   = "initrd"
	scriptFile   = "boot.ipxe"
	configFolder = "configs"
	// installedFolder is where machines tell that they are installed.
	installedFolder = "installed"
)

// Options say what is served, and to whom.
type Options struct {
	Image *Image
	// Address is where machines reach the HTTP server: IPv4, with the port. The
	// other servers have the same address and their own ports.
	Address netip.AddrPort
	// Config returns the machine config of a machine; fs.ErrNotExist if there is
	// none. It is nil if there are none at all.
	Config func(net.HardwareAddr) ([]byte, error)
	// Any answers machines that there is no config for too: they go to maintenance
	// mode. Otherwise they boot as if this server was not there.
	Any bool
	// Once boots a machine until it tells that it is installed, and then leaves it to
	// its disk, whatever its firmware tries first. One with an image that is signed,
	// and so stays as it is, has its config once.
	Once bool
	// Log hears of each machine that boots.
	Log *slog.Logger
}

// Server boots machines.
type Server struct {
	options Options
	// argument is added to the image's command line.
	argument string

	mu     sync.Mutex
	served map[string]string // MAC addresses whose config was handed out, with the address that got it
	// installed are those that told of their installation.
	installed map[string]bool
	// mentioned are those that were told of, with the reason.
	mentioned map[string]string
}

// New checks the options.
func New(options Options) (*Server, error) {
	if !isUsable(options.Address) {
		return nil, fmt.Errorf("machines cannot be told to boot from %s: an IPv4 address and a port are needed", options.Address)
	}
	if options.Config == nil && !options.Any {
		return nil, errors.New("there are no configs, and machines without one are not to be answered: nothing would ever boot")
	}
	s := &Server{options: options, served: map[string]string{}, installed: map[string]bool{}, mentioned: map[string]string{}}
	if options.Config != nil && !options.Image.Signed() {
		// machined replaces ${mac}; iPXE does so before.
		s.argument = "keelson.config=" + s.url(configFolder+"/${mac}")
		if options.Once { // else whoever tells would be booted again, and tell again
			s.argument += " keelson.installed=" + s.url(installedFolder+"/${mac}")
		}
	}
	if _, err := options.Image.WithArgument(s.argument); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) url(file string) string { return "http://" + s.options.Address.String() + "/" + file }

// wanted tells whether a machine is one to be booted, and why not.
func (s *Server) wanted(mac net.HardwareAddr) (wanted bool, why string) {
	if s.isDone(mac) {
		return false, "it is installed, and left to boot from its disk"
	}
	if s.options.Any {
		return true, ""
	}
	_, err := s.options.Config(mac)
	if errors.Is(err, fs.ErrNotExist) {
		return false, "there is no config for it"
	}
	if err != nil {
		return false, "its config cannot be read: " + err.Error()
	}
	return true, ""
}

// isDone tells whether a machine is left to its disk.
func (s *Server) isDone(mac net.HardwareAddr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.options.Once {
		return false
	}
	if s.argument != "" {
		return s.installed[mac.String()]
	}
	_, served := s.served[mac.String()]
	return served
}

// maxMentioned bounds how many machines are remembered that were told of.
const maxMentioned = 4096

// mention tells of a machine that is not booted, once for each reason.
func (s *Server) mention(mac net.HardwareAddr, why string) {
	s.mu.Lock()
	known := s.mentioned[mac.String()] == why || len(s.mentioned) >= maxMentioned
	if !known {
		s.mentioned[mac.String()] = why
	}
	s.mu.Unlock()
	if !known {
		s.options.Log.Info("a machine asks what to boot, and is not answered", "mac", mac.String(), "why", why)
	}
}

// Sockets are what a server listens on. It closes them.
type Sockets struct {
	HTTP net.Listener
	// DHCP must hear and be able to send broadcasts.
	DHCP, PXE, TFTP net.PacketConn
}

// Times that HTTP clients have: firmware is slow, but not forever.
const (
	headerTimeout = 30 * time.Second
	bodyTimeout   = 30 * time.Minute
)

// TFTP sends again what is not answered after so long, and so often.
const (
	tftpTimeout = 2 * time.Second
	tftpRetries = 8
)

// Run serves until ctx ends, or one of the servers fails.
func (s *Server) Run(ctx context.Context, sockets Sockets) error {
	group, ctx := errgroup.WithContext(ctx)
	web := &http.Server{Handler: s.handler(), ReadHeaderTimeout: headerTimeout, WriteTimeout: bodyTimeout}
	group.Go(func() error {
		defer context.AfterFunc(ctx, func() { web.Close() })()
		if err := web.Serve(sockets.HTTP); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	for _, dhcp := range []struct {
		conn   net.PacketConn
		handle server4.Handler
	}{{sockets.DHCP, s.handleDHCP}, {sockets.PXE, s.handlePXE}} {
		server, err := server4.NewServer("", nil, dhcp.handle, server4.WithConn(dhcp.conn))
		if err != nil {
			return err
		}
		group.Go(func() error {
			defer context.AfterFunc(ctx, func() { server.Close() })()
			return server.Serve()
		})
	}
	group.Go(func() error {
		files := tftp.NewServer(s.readTFTP, nil)
		files.EnableSinglePort() // nothing but this port need pass a firewall
		files.SetTimeout(tftpTimeout)
		files.SetRetries(tftpRetries)
		defer context.AfterFunc(ctx, func() {
			files.Shutdown()
			sockets.TFTP.Close()
		})()
		return files.Serve(sockets.TFTP)
	})
	err := group.Wait()
	if ctx := context.Cause(ctx); errors.Is(ctx, context.Canceled) {
		return nil
	}
	return err
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /"+imageFile, func(w http.ResponseWriter, r *http.Request) {
		image, err := s.image()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		s.serve(w, r, imageFile, image)
	})
	mux.HandleFunc("GET /"+kernelFile, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, kernelFile, s.options.Image.Kernel()) })
	mux.HandleFunc("GET /"+initrdFile, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, initrdFile, s.options.Image.Initrd()) })
	mux.HandleFunc("GET /"+scriptFile, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, s.script())
	})
	mux.HandleFunc("GET /"+configFolder+"/{mac}", s.serveConfig)
	mux.HandleFunc("POST /"+installedFolder+"/{mac}", s.hearInstalled)
	return mux
}

func (s *Server) image() (io.ReadSeeker, error) { return s.options.Image.WithArgument(s.argument) }

// serve sends a file, or the part of it that is asked for.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, name string, content io.ReadSeeker) {
	if r.Method == http.MethodGet {
		s.options.Log.Info("a machine loads a file", "address", r.RemoteAddr, "file", name)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, content)
}

// script tells iPXE to boot the image's parts: of the whole image it would
// replace the command line.
func (s *Server) script() string {
	arguments := s.options.Image.CommandLine()
	if s.argument != "" {
		arguments += " " + s.argument
	}
	return "#!ipxe\n" +
		"kernel " + s.url(kernelFile) + " initrd=" + initrdFile + " " + arguments + "\n" +
		"initrd --name " + initrdFile + " " + s.url(initrdFile) + "\n" +
		"boot\n"
}

// serveConfig hands out a machine's config.
func (s *Server) serveConfig(w http.ResponseWriter, r *http.Request) {
	mac, err := net.ParseMAC(r.PathValue("mac"))
	if r.Method != http.MethodGet { // GET's pattern is HEAD's, too
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	if err != nil || s.options.Config == nil {
		http.NotFound(w, r)
		return
	}
	log := s.options.Log.With("mac", mac.String(), "address", r.RemoteAddr)
	before, ok := s.claim(mac, hostOf(r))
	if !ok {
		log.Warn("the config of a machine that had it was asked for and not handed out: start anew to let the machine have it")
		http.Error(w, "this config was handed out before", http.StatusGone)
		return
	}
	config, err := s.options.Config(mac)
	if err == nil {
		w.Header().Set("Content-Type", "application/yaml")
		_, err = w.Write(config)
	}
	if err == nil {
		err = http.NewResponseController(w).Flush()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.unclaim(mac)
		log.Info("there is no config for a machine: it goes to maintenance mode")
		http.NotFound(w, r)
	case err != nil:
		s.unclaim(mac)
		log.Warn("a machine did not get its config", "error", err)
		http.Error(w, "the config cannot be read", http.StatusInternalServerError)
	case before != "" && before != hostOf(r):
		log.Warn("a machine's config is handed out to another address than before: if it was not the machine that asked, make new secrets", "before", before)
	default:
		log.Info("a machine has its config")
	}
}

// hearInstalled is told by a machine that has its config that it is installed. By
// then it may have the address of its config, so that its own is none to go by.
func (s *Server) hearInstalled(w http.ResponseWriter, r *http.Request) {
	mac, err := net.ParseMAC(r.PathValue("mac"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	s.mu.Lock()
	_, served := s.served[mac.String()]
	if served {
		s.installed[mac.String()] = true
	}
	s.mu.Unlock()
	if !served {
		http.Error(w, "this machine has not got its config here", http.StatusForbidden)
		return
	}
	s.options.Log.Info("a machine is installed, and left to its disk", "mac", mac.String(), "address", r.RemoteAddr)
	w.WriteHeader(http.StatusNoContent)
}

// hostOf is a client's address without its port.
func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// claim notes that a config is handed out to an address, and returns the one that had
// it before; not ok if the machine has no use for it any more. Who was cut off asks
// again.
func (s *Server) claim(mac net.HardwareAddr, host string) (before string, ok bool) {
	done := s.isDone(mac)
	s.mu.Lock()
	defer s.mu.Unlock()
	before = s.served[mac.String()]
	if done && before != host {
		return before, false
	}
	s.served[mac.String()] = host
	return before, true
}

func (s *Server) unclaim(mac net.HardwareAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.served, mac.String())
}

// readTFTP serves the image by TFTP.
func (s *Server) readTFTP(name string, to io.ReaderFrom) error {
	// Firmware may ask with a slash, and some with what follows the name in the
	// DHCP answer.
	if path.Base(path.Clean(name)) != imageFile {
		return fmt.Errorf("there is no %q here, only %s", name, imageFile)
	}
	image, err := s.image()
	if err != nil {
		return err
	}
	if sized, ok := to.(tftp.OutgoingTransfer); ok {
		sized.SetSize(s.options.Image.size)
		peer := sized.RemoteAddr()
		s.options.Log.Info("a machine loads a file", "address", peer.String(), "file", imageFile)
	}
	_, err = to.ReadFrom(image)
	return err
}
