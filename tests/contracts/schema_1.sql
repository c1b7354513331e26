-- A store of schema 1 as version 1 left it; read by tests/contracts/test_sqlite.py.
BEGIN TRANSACTION;
CREATE TABLE catalog (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;
INSERT INTO "catalog" VALUES(1,1,'{"who":"\u00e9","version":1}');
CREATE TABLE feed (
    seq INTEGER NOT NULL PRIMARY KEY,   -- without gaps; above marks.folded: not public yet
    kind TEXT NOT NULL,                 -- job or unit
    key TEXT NOT NULL,
    process TEXT NOT NULL,
    label TEXT NOT NULL,
    start INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    transition TEXT NOT NULL            -- as in the document
) STRICT;
INSERT INTO "feed" VALUES(1,'job','site_hourly@2024-05-01T00','site_hourly','2024-05-01T00',1714521600000000,1714525200000000,'[1,1795194300123456,"embryo","in_progress",1,0]');
INSERT INTO "feed" VALUES(2,'unit','site_hourly@2024-05-01T00#1','site_hourly','2024-05-01T00',1714521600000000,1714525200000000,'[1,1795194300123456,"","requested",1,1]');
INSERT INTO "feed" VALUES(3,'unit','site_hourly@2024-05-01T00#1','site_hourly','2024-05-01T00',1714521600000000,1714525200000000,'[2,1795194300123456,"requested","in_progress",1,1]');
INSERT INTO "feed" VALUES(4,'unit','site_hourly@2024-05-01T00#1','site_hourly','2024-05-01T00',1714521600000000,1714525200000000,'[3,1795194300123457,"in_progress","processed",1,1]');
INSERT INTO "feed" VALUES(5,'job','site_hourly@2024-05-01T00','site_hourly','2024-05-01T00',1714521600000000,1714525200000000,'[2,1795194300123456,"in_progress","processed",1,1,1]');
INSERT INTO "feed" VALUES(6,'job','site_hourly@2024-05-01T01','site_hourly','2024-05-01T01',1714525200000000,1714528800000000,'[1,1795194300123456,"embryo","final_run",3,2,2,"stra\u00dfe \"x\" \\ \n\t\u0000 \u65e5\u672c \ud83d\udd70 \udcff"]');
INSERT INTO "feed" VALUES(7,'unit','site_hourly@2024-05-01T01#3.1','site_hourly','2024-05-01T01',1714525200000000,1714528800000000,'[1,1795194300123456,"","requested",1,1]');
INSERT INTO "feed" VALUES(8,'unit','site_hourly@2024-05-01T01#3.1','site_hourly','2024-05-01T01',1714525200000000,1714528800000000,'[2,1795194300123456,"requested","in_progress",3,3]');
INSERT INTO "feed" VALUES(9,'unit','site_hourly@2024-05-01T02#1','site_hourly','2024-05-01T02',1714528800000000,1714532400000000,'[1,1795194300123456,"","requested",1,1]');
CREATE TABLE jobs (
    key TEXT NOT NULL PRIMARY KEY,      -- process@label
    process TEXT NOT NULL,
    start INTEGER NOT NULL,             -- microseconds since the epoch, as all instants
    version INTEGER NOT NULL,
    active INTEGER NOT NULL,            -- 1: not terminal, or held
    told INTEGER NOT NULL,              -- number of its last feed entry
    document TEXT NOT NULL
) STRICT;
INSERT INTO "jobs" VALUES('site_hourly@2024-05-01T00','site_hourly',1714521600000000,2,0,5,'{"process":"site_hourly","label":"2024-05-01T00","start":1714521600000000,"end":1714525200000000,"state":"processed","version":2,"result":1,"result_state":"processed","fingerprint":"","consumed":{},"attempts":1,"unit":"site_hourly@2024-05-01T00#1","transitions":[[1,1795194300123456,"embryo","in_progress",1,0],[2,1795194300123456,"in_progress","processed",1,1,1]]}');
INSERT INTO "jobs" VALUES('site_hourly@2024-05-01T01','site_hourly',1714525200000000,1,1,6,'{"process":"site_hourly","label":"2024-05-01T01","start":1714525200000000,"end":1714528800000000,"state":"final_run","version":1,"generation":3,"result":2,"result_state":"noop","fingerprint":"stra\u00dfe \"x\" \\ \n\t\u0000 \u65e5\u672c \ud83d\udd70 \udcff","consumed":{"site_hourly@2024-05-01T00":2},"consuming":{},"attempts":2,"unit":"x#3.1","runs":1,"next_run":1795194300123457,"forced":true,"holds":["request-1","stra\u00dfe \"x\" \\ \n\t\u0000 \u65e5\u672c \ud83d\udd70 \udcff"],"requests":["request-0"],"reason":"stra\u00dfe \"x\" \\ \n\t\u0000 \u65e5\u672c \ud83d\udd70 \udcff","transitions":[[1,1795194300123456,"embryo","final_run",3,2,2,"stra\u00dfe \"x\" \\ \n\t\u0000 \u65e5\u672c \ud83d\udd70 \udcff"]]}');
CREATE TABLE leases (
    name TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT;
INSERT INTO "leases" VALUES('scheduler','a',1,1795194315123456);
CREATE TABLE ledgers (
    process TEXT NOT NULL PRIMARY KEY,
    through INTEGER NOT NULL,           -- all feed entries up to this number are in it
    document TEXT NOT NULL
) STRICT;
INSERT INTO "ledgers" VALUES('site_hourly',2,'{"process":"site_hourly","through":2,"content":{"runs":[]}}');
CREATE TABLE marks (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO "marks" VALUES('folded',3);
CREATE TABLE requests (
    arrival INTEGER NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    document TEXT NOT NULL
) STRICT;
INSERT INTO "requests" VALUES(1,'request-000','filed','{"id":"request-000","action":"reprocess","process":"site_hourly","starts":[1714521600000000],"filed_at":1795194300123456,"state":"filed"}');
CREATE TABLE schema_migrations (
    number INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at TEXT NOT NULL
) STRICT
;
INSERT INTO "schema_migrations" VALUES(1,'tables','2026-11-21T11:59:12.049Z');
CREATE TABLE units (
    key TEXT NOT NULL PRIMARY KEY,      -- process@label#generation
    process TEXT NOT NULL,
    start INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    owner TEXT,
    lease_until INTEGER,
    not_before INTEGER,
    version INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;
INSERT INTO "units" VALUES('site_hourly@2024-05-01T00#1','site_hourly',1714521600000000,0,'processed',1,'worker-1',1795194315123456,NULL,3,'{"process":"site_hourly","label":"2024-05-01T00","start":1714521600000000,"end":1714525200000000,"generation":1,"state":"processed","version":3,"task":{"entry":"workers.site:count"},"created_at":1795194300123456,"owner":"worker-1","lease_until":1795194315123456,"started_at":1795194300123456,"finished_at":1795194300123456,"low":["a",1],"high":{"\u00e9":null},"count":5,"fingerprint":"","transitions":[[1,1795194300123456,"","requested",1,1],[2,1795194300123456,"requested","in_progress",1,1],[3,1795194300123457,"in_progress","processed",1,1]]}');
INSERT INTO "units" VALUES('site_hourly@2024-05-01T01#3.1','site_hourly',1714525200000000,-5,'in_progress',3,'box-1/4/é',1795194315123457,1795194300123456,2,'{"process":"site_hourly","label":"2024-05-01T01","start":1714525200000000,"end":1714528800000000,"generation":3,"state":"in_progress","version":2,"task":{"command":["wc","-l","a b"],"noop_codes":[3,99],"arguments":{"deep":[1,2.5,null,{"\u00e9":true}]},"source":"events","sink":"hourly","time_limit":1,"max_attempts":1,"backoff":86400000000007,"priority":-5},"created_at":1795194300123456,"run":1,"attempt":3,"failures":2,"not_before":1795194300123456,"transitions":[[1,1795194300123456,"","requested",1,1],[2,1795194300123456,"requested","in_progress",3,3]],"owner":"box-1/4/\u00e9","lease_until":1795194315123457,"started_at":1795194300123456,"progress":[0.5,null,"half"]}');
INSERT INTO "units" VALUES('site_hourly@2024-05-01T02#1','site_hourly',1714528800000000,0,'requested',1,NULL,NULL,NULL,1,'{"process":"site_hourly","label":"2024-05-01T02","start":1714528800000000,"end":1714532400000000,"generation":1,"state":"requested","version":1,"task":{"entry":"workers.site:count"},"created_at":1795194300123456,"transitions":[[1,1795194300123456,"","requested",1,1]]}');
CREATE INDEX jobs_by_start ON jobs (process, start);
CREATE INDEX jobs_active ON jobs (process, start) WHERE active = 1;
CREATE INDEX units_active ON units (start, key)
    WHERE state IN ('requested', 'claimed', 'in_progress');
CREATE INDEX units_requested ON units (priority DESC, start, key, not_before, process)
    WHERE state = 'requested';
CREATE INDEX requests_open ON requests (arrival) WHERE state = 'filed';
COMMIT;
