import pytest

from services.errors import UnusableReply
from services.prompts.replies.consistency import check_consistent
from services.prompts.replies.lexicon import Reading

CONTRADICTIONS = [
    "The user likes chess and opera. The user shows little interest in opera.",
    "The user may like opera. They really love opera. The user is not interested in the opera.",
    "The reader is drawn to music, above all to jazz. They avoid pop and jazz.",
    "The user enjoys chess, opera and tennis, not golf and tennis.",
    "Der Nutzer mag Schach und Oper. Er zeigt wenig Interesse an Oper.",
    "Der Nutzer bevorzugt klar kurze Antworten. Er meidet Fußnoten und kurze Antworten.",
    "L'utilisateur aime les échecs et l'opéra. Il n'aime pas l'opéra.",
    "L'utilisateur apprécie le jazz. Il montre peu d'intérêt pour le golf et le jazz.",
    "Al usuario le gustan el ajedrez y la ópera. Muestra poco interés por la ópera.",
    "O usuário gosta de xadrez, de ópera e do mar. O usuário mostra pouco interesse por golfe e ópera. "
    "Os textos são em português.",
    "All'utente piacciono gli scacchi e l'opera. Mostra poco interesse per il golf e l'opera.",
    "Пользователь любит шахматы и оперу. Он не любит оперу.",
    "用户喜欢象棋、歌剧和网球。用户对高尔夫和歌剧不感兴趣。",
    "用户可能喜欢爵士乐，不喜欢爵士乐。",
    "ユーザーはチェス、オペラを好みます。オペラにはほとんど興味がありません。",
]
REPETITIONS = [
    "The user is drawn to cycling, above all to cycling.",
    "Der Nutzer interessiert sich für Jazz, vor allem für Jazz.",
    "The user is drawn to jazz, opera and jazz.",
    "The user shows little interest in golf and golf.",
    "The user likes jazz. The user may like jazz and tea. They enjoy walks and jazz.",
    "The user clearly prefers answers in lists. The user tends to prefer answers in lists.",
    "Der Nutzer interessiert sich für Jazz, Oper und Jazz.",
    "Der Nutzer mag kurze Antworten. Der Nutzer mag wahrscheinlich kurze Antworten.",
    "L'utilisateur apprécie le jazz, le thé et le jazz.",
    "L'utilisateur préfère nettement le jazz et la danse. L'utilisateur préfère le jazz et la danse.",
    "Le interesan el ajedrez, el té y el ajedrez.",
    "Пользователь любит джаз, музыку для танцев и джаз.",
    "用户明显喜欢爵士乐。用户可能喜欢爵士乐。",
    "ユーザーはジャズ、オペラ、ジャズを好みます。",
    "De gebruiker leest over muziek, thee, golf, schaken en thee, golf.",
]
GOOD = [
    "The user is drawn to sports, above all to cycling.",
    "The user likes bread. The user may like sourdough bread.",
    "The user likes bread. The user shows little interest in sourdough bread.",
    "The user likes coffee in the morning. The user dislikes coffee in the evening.",
    "On weekends, the user enjoys long films. On workdays, they avoid long films.",
    "The user used to love football. The user avoids football now.",
    "The user loves football. Since an injury the user avoids football.",
    "The user likes films. The user does not like films, except documentaries.",
    "The user likes opera. Her husband dislikes opera.",
    "The user prefers tea to coffee and avoids instant coffee.",
    "The user likes New York, New York. It is the song that wins, again and again.",
    "The user does not avoid opera. The user likes opera.",
    "The user likes games like chess. The user dislikes sports like golf. They love golf jokes.",
    "Work: likes short answers.\nPrivate: avoids short answers.",
    "Der Nutzer mag Kaffee, Tee und Saft nicht. Er meidet Kaffee.",
    "Früher mochte der Nutzer Fußball. Der Nutzer liebt Rad. Er meidet Fußball.",
    "Der Nutzer liebt Opern. Seit dem Umzug meidet er Opern.",
    "L'utilisateur n'aime plus le football. L'utilisateur aime le football à la radio.",
    "L'utilisateur aime le thé le matin, mais évite le thé le soir.",
    "Le gusta el fútbol en la radio. No le gusta el fútbol.",
    "Antes le gustaba la ópera. Ahora evita la ópera. Al usuario le gusta el té.",
    "Пользователь любит кофе. Теперь он избегает кофе.",
    "Раньше пользователь любил футбол. Он не любит футбол.",
    "用户喜欢早上喝咖啡，不喜欢晚上喝咖啡。",
    "用户过去喜欢足球，现在不喜欢足球。",
    "朝はコーヒーを好みます。夜はコーヒーを避けます。",
    "ユーザーは以前はオペラが好きでした。今はオペラを好みません。",
]


@pytest.mark.parametrize(
    ("text", "reason"),
    [(text, "contradicts|twice") for text in CONTRADICTIONS] + [(text, "twice") for text in REPETITIONS],
)
def test_a_text_at_odds_with_itself_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UnusableReply, match=reason) as caught:
        check_consistent(Reading(text))
    assert caught.value.reason == "consistent"


@pytest.mark.parametrize("text", GOOD)
def test_what_is_limited_narrower_or_about_another_is_no_contradiction(text: str) -> None:
    check_consistent(Reading(text))
