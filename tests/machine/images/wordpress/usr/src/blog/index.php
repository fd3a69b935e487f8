<?php
// Posts in MariaDB, uploads beside them as files, a cache beside the uploads, and a call to the site's own address.
declare(strict_types=1);

function database(): PDO {
    $host = getenv('WORDPRESS_DB_HOST');
    $name = getenv('WORDPRESS_DB_NAME');
    $database = new PDO("mysql:host=$host;dbname=$name", getenv('WORDPRESS_DB_USER'), getenv('WORDPRESS_DB_PASSWORD'));
    $database->exec('CREATE TABLE IF NOT EXISTS posts (id INT PRIMARY KEY AUTO_INCREMENT, title TEXT)');
    return $database;
}

function page(): array {
    return [
        'title' => getenv('BLOG_TITLE'),
        'posts' => database()->query('SELECT title FROM posts ORDER BY id')->fetchAll(PDO::FETCH_COLUMN),
        'uploads' => array_map('basename', glob('wp-content/uploads/*')),
        'cached' => @file_get_contents('wp-content/cache/page') ?: null,
    ];
}

function publish(string $title): array {
    database()->prepare('INSERT INTO posts (title) VALUES (?)')->execute([$title]);
    if (!is_dir('wp-content/cache')) {
        mkdir('wp-content/cache');
    }
    file_put_contents('wp-content/cache/page', $title);
    return page();
}

function upload(array $file): array {
    $spool = $file['tmp_name'];
    $done = move_uploaded_file($spool, 'wp-content/uploads/' . basename($file['name']));
    return ['moved' => $done, 'spool' => dirname($spool), 'error' => $file['error']];
}

// As WordPress's cron and its check of itself do; who signs the certificate in a laboratory is nobody's business.
function call_itself(): array {
    $url = "https://{$_SERVER['HTTP_HOST']}/?ping=1";
    $unverified = ['ssl' => ['verify_peer' => false, 'verify_peer_name' => false], 'http' => ['timeout' => 10]];
    return ['url' => $url, 'answer' => @file_get_contents($url, false, stream_context_create($unverified))];
}

header('Content-Type: application/json');
echo json_encode(match (true) {
    isset($_GET['ping']) => ['pong' => $_SERVER['REMOTE_ADDR']],
    isset($_GET['self']) => call_itself(),
    isset($_FILES['file']) => upload($_FILES['file']),
    isset($_POST['title']) => publish($_POST['title']),
    default => page(),
});
