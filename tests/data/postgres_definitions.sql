-- Definitions and rights, by queries that share nothing with pg_dump. Oids and the order of rights differ
-- between two databases; names do not.
SELECT 'class', c.oid::regclass::text, c.relkind::text, c.relpersistence::text, pg_get_userbyid(c.relowner),
  (SELECT string_agg(x::text, ' ' ORDER BY x::text) FROM unnest(c.relacl) x), c.relrowsecurity::text,
  obj_description(c.oid, 'pg_class'), c.reloptions::text, pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL SELECT 'column', a.attrelid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
  pg_get_expr(d.adbin, d.adrelid), a.attidentity::text || a.attgenerated::text, (SELECT string_agg(x::text, ' ' ORDER BY x::text) FROM unnest(a.attacl) x),
  col_description(a.attrelid, a.attnum), a.attnum::text, NULL
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(k.oid), convalidated::text, NULL, NULL, NULL, NULL, NULL, NULL
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisvalid::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_'
UNION ALL SELECT 'view', c.oid::regclass::text, pg_get_viewdef(c.oid), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL SELECT 'routine', p.oid::regprocedure::text, CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END, pg_get_userbyid(p.proowner),
  (SELECT string_agg(x::text, ' ' ORDER BY x::text) FROM unnest(p.proacl) x), NULL, NULL, NULL, NULL, NULL, NULL
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL SELECT 'trigger', tgrelid::regclass::text, pg_get_triggerdef(oid), tgenabled::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'event trigger', evtname, evtevent, evtfoid::regproc::text, evtenabled::text, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_event_trigger
UNION ALL SELECT 'policy', polrelid::regclass::text, polname, polcmd::text, (SELECT string_agg(pg_get_userbyid(x), ' ' ORDER BY pg_get_userbyid(x)) FROM unnest(polroles) x),
  pg_get_expr(polqual, polrelid), NULL, NULL, NULL, NULL, NULL FROM pg_policy
UNION ALL SELECT 'schema', nspname, pg_get_userbyid(nspowner), (SELECT string_agg(x::text, ' ' ORDER BY x::text) FROM unnest(nspacl) x), NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
UNION ALL SELECT 'default rights', pg_get_userbyid(defaclrole), coalesce(defaclnamespace::regnamespace::text, ''), defaclobjtype::text,
  (SELECT string_agg(x::text, ' ' ORDER BY x::text) FROM unnest(defaclacl) x), NULL, NULL, NULL, NULL, NULL, NULL FROM pg_default_acl
UNION ALL SELECT 'type', t.oid::regtype::text, t.typtype::text, pg_get_userbyid(t.typowner),
  (SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid), NULL, NULL, NULL, NULL, NULL, NULL
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL SELECT 'extension', extname, extversion, extnamespace::regnamespace::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_extension
UNION ALL SELECT 'sequence', schemaname || '.' || sequencename, start_value::text, min_value::text, max_value::text, increment_by::text, cycle::text, cache_size::text, last_value::text, NULL, NULL FROM pg_sequences
UNION ALL SELECT 'publication', pubname, (SELECT string_agg(prrelid::regclass::text, ',' ORDER BY prrelid::regclass::text) FROM pg_publication_rel WHERE prpubid = p.oid), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_publication p
UNION ALL SELECT 'statistics', stxname, stxrelid::regclass::text, stxkind::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_statistic_ext
UNION ALL SELECT 'large object', loid::text, md5(string_agg(data, ''::bytea ORDER BY pageno)), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_largeobject GROUP BY loid
UNION ALL SELECT 'large object rights', oid::text, pg_get_userbyid(lomowner), lomacl::text, obj_description(oid, 'pg_largeobject'), NULL, NULL, NULL, NULL, NULL, NULL FROM pg_largeobject_metadata
ORDER BY 1, 2, 3, 4, 5, 6
