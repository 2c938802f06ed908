package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// maxConnections is for each pod; the database takes a hundred.
	maxConnections = 5
	connectTimeout = 3 * time.Second
	// prepareLock is the number of the advisory lock that one pod holds while it
	// makes the tables. Any number that nobody else uses would do.
	prepareLock = 20260101
)

var (
	errNoProduct = errors.New("there is no such product")
	errSoldOut   = errors.New("sold out")
)

// product is something on sale.
type product struct {
	ID    int    `json:"id"`
	Name  string `json:"name"`
	Cents int    `json:"cents"`
	Stock int    `json:"stock"`
}

// Price is the price as a person reads it.
func (p product) Price() string { return fmt.Sprintf("%d.%02d", p.Cents/100, p.Cents%100) }

// store is the database.
type store struct{ pool *pgxpool.Pool }

// openStore connects to nothing yet: that is for the first query.
func openStore(ctx context.Context, url, password string) (*store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("the database's address: %w", err)
	}
	config.ConnConfig.Password = password
	config.ConnConfig.ConnectTimeout = connectTimeout
	config.MaxConns = maxConnections
	config.MaxConnIdleTime = time.Minute
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("the database's address: %w", err)
	}
	return &store{pool}, nil
}

func (s *store) close() { s.pool.Close() }

//go:embed schema.sql
var schema string

// prepare makes the tables and fills an empty shop. Every pod does so at its
// start, one after the other.
func (s *store) prepare(ctx context.Context) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", prepareLock); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, schema)
		return err
	})
}

// products are all products, by name.
func (s *store) products(ctx context.Context) ([]product, error) {
	rows, err := s.pool.Query(ctx, "SELECT id, name, cents, stock FROM products ORDER BY name LIMIT 100")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[product])
}

// orders is how many orders there are.
func (s *store) orders(ctx context.Context) (count int, err error) {
	err = s.pool.QueryRow(ctx, "SELECT count(*) FROM orders").Scan(&count)
	return count, err
}

// order sells one piece of a product and returns the order's number.
func (s *store) order(ctx context.Context, id int) (number int, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var stock int
		err := tx.QueryRow(ctx, "SELECT stock FROM products WHERE id = $1 FOR UPDATE", id).Scan(&stock)
		if errors.Is(err, pgx.ErrNoRows) {
			return errNoProduct
		}
		if err != nil {
			return err
		}
		if stock == 0 {
			return errSoldOut
		}
		if _, err := tx.Exec(ctx, "UPDATE products SET stock = stock - 1 WHERE id = $1", id); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "INSERT INTO orders (product) VALUES ($1) RETURNING id", id).Scan(&number)
	})
	return number, err
}
