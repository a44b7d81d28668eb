import de.bwaldvogel.mongo.MongoCollection;
import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.CollectionOptions;
import de.bwaldvogel.mongo.backend.CursorRegistry;
import de.bwaldvogel.mongo.backend.Index;
import de.bwaldvogel.mongo.backend.QueryResult;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.backend.h2.H2Collection;
import de.bwaldvogel.mongo.backend.h2.H2Database;
import de.bwaldvogel.mongo.bson.Document;
import io.netty.channel.Channel;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Set;
import java.util.stream.StreamSupport;
import org.h2.mvstore.MVStore;

/**
 * The MongoDB protocol on one port, kept in one H2 file that is committed before each write is answered.
 *
 * Not a MongoDB: no transactions, partial unique indexes, TTL expiry, change streams or pipeline updates.
 * Arguments: PORT FILE.
 */
public final class MongoStandIn {
  /**
   * Megabytes of pages kept as objects. Only unique indexes are real here: a query without an `_id` reads every
   * document, and unpacks those that are not kept.
   */
  private static final int KEPT = 512;

  private static final Set<String> WRITES = Set.of(
      "insert", "update", "delete", "findandmodify", "createindexes", "dropindexes",
      "create", "drop", "dropdatabase", "renamecollection", "aggregate");

  /** Current drivers want wire version 9 or more; every version the library knows says 8 or less. */
  private static final MongoVersion VERSION = new MongoVersion() {
    @Override public List<Integer> getVersionArray() { return List.of(5, 0, 0); }
    @Override public int getWireVersion() { return 13; }
  };

  /** The library takes an index for queries over its fields and no other; MongoDB takes one for a part of a query too. */
  private static final class ById extends H2Collection {
    ById(MongoDatabase database, String name, CollectionOptions options, MVStore store, CursorRegistry cursors) {
      super(database, name, options, store.openMap("databases." + database.getDatabaseName() + "." + name),
          store.openMap("meta." + database.getDatabaseName() + "." + name), cursors);
    }

    @Override protected QueryResult matchDocuments(
        Document query, Document order, int skip, int limit, int batch, Document fields) {
      Document wanted = new Document("_id", query.get("_id"));
      for (Index<Object> index : getIndexes()) {
        if (query.containsKey("_id") && index.canHandle(wanted)) {
          var found = StreamSupport.stream(index.getPositions(wanted).spliterator(), false)
              .filter(Objects::nonNull).map(this::getDocument);
          return matchDocumentsFromStream(found, query, order, skip, limit, batch, fields);
        }
      }
      return super.matchDocuments(query, order, skip, limit, batch, fields);
    }
  }

  private static final class DurableBackend extends H2Backend {
    DurableBackend(MVStore store) { super(store); }

    @Override protected MongoDatabase openOrCreateDatabase(String name) {
      return new Database(name, getMvStore(), getCursorRegistry());
    }

    private final class Database extends H2Database {
      Database(String name, MVStore store, CursorRegistry cursors) { super(name, store, cursors); }

      // called while the library's constructor runs, so a field of this class would not be there yet
      @Override protected MongoCollection<Object> openOrCreateCollection(String name, CollectionOptions options) {
        return new ById(this, name, options, getMvStore(), cursorRegistry);
      }
    }

    @Override public Document handleCommand(Channel channel, String database, String command, Document query) {
      String name = command.toLowerCase(Locale.ROOT);
      if (name.equals("hello") || name.equals("ismaster")) return hello(channel, database, query);
      if (name.equals("endsessions") || name.equals("killsessions")) return new Document("ok", 1.0);
      if (name.endsWith("transaction") || query.containsKey("startTransaction")) {
        throw new IllegalStateException("this stand-in has no transactions; the product must not use them");
      }
      Document reply = super.handleCommand(channel, database, command, query);
      if (WRITES.contains(name)) commit();
      return reply;
    }

    private Document hello(Channel channel, String database, Document query) {
      Document reply = super.handleCommand(channel, database, "ismaster", query);
      reply.put("helloOk", true);
      reply.put("isWritablePrimary", true);
      reply.put("logicalSessionTimeoutMinutes", 30);
      return reply;
    }
  }

  public static void main(String[] arguments) throws InterruptedException {
    MVStore store = new MVStore.Builder().fileName(arguments[1]).cacheSize(KEPT).open();
    MongoServer server = new MongoServer(new DurableBackend(store).version(VERSION));
    server.bind("127.0.0.1", Integer.parseInt(arguments[0]));
    Runtime.getRuntime().addShutdownHook(new Thread(server::shutdown));
    Thread.currentThread().join();
  }
}
