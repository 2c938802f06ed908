package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// cacheTimeout bounds each call: a slow cache is worse than none.
	cacheTimeout = 500 * time.Millisecond
	// productsLife is how old a page's stock may be at most. An order ends it
	// early.
	productsLife = 10 * time.Second

	productsKey = "shop:products"
	visitsKey   = "shop:visits"
)

// cache is Redis. The shop works without it, a little slower.
type cache struct{ client *redis.Client }

func openCache(address string) *cache {
	// What it would log comes back as errors, too.
	logging.Disable()
	return &cache{redis.NewClient(&redis.Options{
		Addr:                  address,
		DialTimeout:           cacheTimeout,
		ReadTimeout:           cacheTimeout,
		WriteTimeout:          cacheTimeout,
		ContextTimeoutEnabled: true,
		// Once more is for a connection that the server has closed meanwhile.
		MaxRetries:    1,
		DialerRetries: 1,
		PoolSize:      10,
		// The server is older than these, and one of Redis' own services.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})}
}

func (c *cache) close() { _ = c.client.Close() }

// visit counts a visit and returns how many there were.
func (c *cache) visit(ctx context.Context) (int64, error) {
	return c.client.Incr(ctx, visitsKey).Result()
}

// products returns what keep kept, nil if that is too long ago.
func (c *cache) products(ctx context.Context) ([]product, error) {
	text, err := c.client.Get(ctx, productsKey).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []product
	return list, json.Unmarshal(text, &list)
}

func (c *cache) keep(ctx context.Context, list []product) error {
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return c.client.Set(ctx, productsKey, text, productsLife).Err()
}

// forget drops the products: they have changed.
func (c *cache) forget(ctx context.Context) error { return c.client.Del(ctx, productsKey).Err() }
